"""The files of `densekit explain`: maps, pictures, explanations.csv and explanations.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._files import replacing, write_csv, write_json
from densekit.app.explanation.summary import as_json, gains, weights_verdict
from densekit.explain import Explanation
from densekit.visualization import draw_outline, draw_saliency, save_picture, side_by_side
from densekit.visualization.saliency import saliency_plane

COLUMNS = (
    *("image", "head", "target", "method", "score", "deletion", "insertion"),
    *("random_deletion", "random_insertion", "rank_correlation", "depends_on_weights"),
    *("picture", "map"),
)
JSON = "explanations.json"


@dataclass(frozen=True)
class Row:
    """One map and its files.

    Attributes:
        image: The image, as named in the source.
        explanation: The map.
        picture: Its picture, relative to the output folder.
        map: Its numbers, relative to the output folder.
    """

    image: str
    explanation: Explanation
    picture: str
    map: str

    def values(self, head: str) -> dict[str, Any]:
        """Returns one value per column of `COLUMNS`; None for what was not measured."""
        one = self.explanation
        cells = [
            *(self.image, head, one.target, one.method, one.score),
            *(None if one.measured is None else getattr(one.measured, m) for m in _MEASURES),
            *(None if one.random is None else getattr(one.random, m) for m in _MEASURES),
            *(one.correlation, one.depends_on_weights, self.picture, self.map),
        ]
        return dict(zip(COLUMNS, cells, strict=True))


_MEASURES = ("deletion", "insertion")


def write_map(
    output: Path,
    name: Path,
    image_name: str,
    image: NDArray[Any],
    found: Explanation,
    other: NDArray[Any] | None = None,
) -> Row:
    """Writes the map and the picture of one explanation.

    Args:
        output: The output folder.
        name: Path of both files below their folders, without a suffix.
        image_name: The image, as named in the source.
        image: (*S, C), as it was read.
        found: Its explanation.
        other: The image that it was compared with.
    """
    picture, numbers = (Path(kind, f"{name}{end}") for kind, end in _FILES)
    with replacing(output / numbers) as part:
        np.save(part, found.saliency)
    plane, saliency, region = saliency_plane(image, found.saliency, found.outline)
    panels = [draw_outline(plane, region), draw_outline(draw_saliency(plane, saliency), region)]
    titles = [f"{found.target} {found.score:.2f}", found.method]
    if other is not None:
        panels.append(draw_outline(other, None))
        titles.append("compared with")
    save_picture(side_by_side(panels, titles), output / picture)
    return Row(image_name, found, picture.as_posix(), numbers.as_posix())


_FILES = (("pictures", ".png"), ("maps", ".npy"))


def write_tables(output: Path, head: str, rows: Sequence[Row], settings: Mapping[str, Any]) -> None:
    """Writes explanations.csv and explanations.json.

    Args:
        output: The output folder.
        head: Name of the head.
        rows: All maps.
        settings: What they were computed with.
    """
    values = [row.values(head) for row in rows]
    write_csv(output / "explanations.csv", [COLUMNS, *(one.values() for one in values)])
    found = [row.explanation for row in rows]
    verdict = weights_verdict(found)
    content = {
        "head": head,
        "settings": dict(settings),
        "faithfulness": {g.measure: as_json(g) for g in gains([r.image for r in rows], found)},
        "weights": verdict
        and dict(zip(("rank_correlation", "passed", "words"), verdict, strict=True)),
        "rows": values,
    }
    write_json(output / JSON, content)
