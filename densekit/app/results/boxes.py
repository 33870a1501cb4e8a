"""Writes boxes, and masks of objects, as COCO results, and draws them over their images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import write_text

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BoxWriter:
    """Collects boxes; `close` writes them.

    Args:
        output: Folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.results: dict[str, list[dict[str, Any]]] = {}

    def add(
        self, head: str, result: Mapping[str, Any], image_id: int, category_ids: Sequence[int]
    ) -> None:
        """Adds the boxes of one head and image."""
        self.results.setdefault(head, []).extend(coco_entries(result, image_id, category_ids))

    def draw(
        self, image: NDArray[Any], result: Mapping[str, Any], names: Sequence[str], file: Path
    ) -> None:
        """Draws the boxes and masks over the image (H, W, C)."""
        from densekit.visualization.images import save_picture
        from densekit.visualization.instances import draw_objects

        save_picture(draw_objects(image, result, names), file)

    def close(self, heads: Sequence[str]) -> None:
        """Writes the results of heads, including empty ones."""
        for head in heads:
            name = "results.json" if len(heads) == 1 else f"results_{head}.json"
            write_text(self.output / name, json.dumps(self.results.get(head, [])))


def coco_entries(
    result: Mapping[str, Any], image_id: int, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """Converts detections of one image to COCO results.

    They have original category ids, xywh boxes, and `segmentation` as run lengths if there are
    masks.
    """
    entries: list[dict[str, Any]] = []
    for box, score, label in zip(
        result["boxes"].tolist(), result["scores"].tolist(), result["labels"].tolist(), strict=True
    ):
        left, top, right, bottom = box
        entries.append(
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": [round(value, 3) for value in (left, top, right - left, bottom - top)],
                "score": round(score, 6),
            }
        )
    for entry, mask in zip(entries, result.get("masks", ()), strict=False):
        entry["segmentation"] = {"size": mask["size"], "counts": mask["counts"].decode()}
    return entries
