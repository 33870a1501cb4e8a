"""Writes panoptic segments as COCO does: a PNG of ids per image, and one JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import replacing, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray


class PanopticWriter:
    """Writes `COMBINATION/NAME.png`; `close` writes `COMBINATION.json`, which lists the segments.

    The id of a pixel's segment is R + 256 G + 65536 B, and 0 is none.

    Args:
        output: Folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.annotations: dict[str, list[dict[str, Any]]] = {}

    def add(
        self,
        head: str,
        result: Mapping[str, Any],
        image_id: int,
        category_ids: Sequence[int],
        name: Path,
    ) -> None:
        """Writes the segments of an image.

        Args:
            head: Name of the combination.
            result: `panoptic` and `segments`, see `densekit.heads.Panoptic`.
            image_id: COCO id of the image.
            category_ids: Original id of each class.
            name: Of the PNG file, relative to the folder of the combination.
        """
        save_ids(result["panoptic"], self.output / head / name)
        listed = [_entry(segment, category_ids) for segment in result["segments"]]
        row = {"image_id": image_id, "file_name": name.as_posix(), "segments_info": listed}
        self.annotations.setdefault(head, []).append(row)

    def draw(self, image: NDArray[Any], result: Mapping[str, Any], file: Path) -> None:
        """Draws the segments over the image (H, W, C)."""
        from densekit.visualization.images import save_picture
        from densekit.visualization.segments import draw_segments

        save_picture(draw_segments(image, result["panoptic"], result["segments"]), file)

    def close(self, described: Mapping[str, Mapping[str, Any]]) -> None:
        """Writes the list of each combination.

        Args:
            described: What every head and combination predicts.
        """
        for head, rows in self.annotations.items():
            content = {"annotations": rows, "categories": categories(described[head])}
            write_json(self.output / f"{head}.json", content)


def categories(described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The classes of a combination as COCO lists them."""
    pairs = zip(described["ids"], described["names"], strict=True)
    return [
        {"id": number, "name": name, "isthing": int(label < described["num_things"])}
        for label, (number, name) in enumerate(pairs)
    ]


def save_ids(panoptic: NDArray[Any], file: Path) -> None:
    """Writes ids (H, W) below 2^24 as an RGB PNG."""
    import numpy as np
    from PIL import Image

    colours = np.stack([panoptic >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        Image.fromarray(colours).save(part, format="PNG")


def _entry(segment: Mapping[str, Any], category_ids: Sequence[int]) -> dict[str, Any]:
    entry = {
        "id": segment["id"],
        "category_id": category_ids[segment["label"]],
        "isthing": int(segment["isthing"]),
        "area": segment["area"],
    }
    return entry | ({"score": round(segment["score"], 5)} if "score" in segment else {})
