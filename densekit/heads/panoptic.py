"""Panoptic segmentation: things and stuff merged, so that every pixel belongs to one segment.

Shape letters: N instances, H and W the size of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.heads.combination import Combination
from densekit.ops.run_lengths import decode
from densekit.types import Result

if TYPE_CHECKING:
    from torchmetrics import Metric

Segment = dict[str, Any]
"""`id` (its value in the map), `label`, `name`, `isthing`, `area` in pixels; of things `score`."""


class Panoptic(Combination):
    """Instances of one head in front of the classes of another, by detectron2's rule.

    Instances are painted by descending score, each where no better one is; one whose mask is mostly
    taken is left out. The rest of the image is that of the mask, class by class. Where neither
    has an answer, no segment is.
    Papers: Panoptic Segmentation, section 5; Panoptic Feature Pyramid Networks, section 3.

    Labels are those of the things, then those of the stuff in the order of the mask's classes. Of
    these the background (`background` in the description) and classes named like a thing are none.

    Args:
        heads: Descriptions of the heads.
        things: Head with instance masks.
        stuff: Head with a mask.
        min_score: Instances with lower scores are left out.
        max_overlap: Share of an instance's mask that better ones may cover.
        min_stuff_area: Stuff with fewer pixels is left out.

    Raises:
        ValueError: A head does not exist, has no class names, or predicts several classes per
            pixel; or no class of the mask is stuff.
    """

    main_metric = ("PQ", "max")

    def __init__(
        self,
        heads: Mapping[str, Mapping[str, Any]],
        *,
        things: str,
        stuff: str,
        min_score: float = 0.5,
        max_overlap: float = 0.5,
        min_stuff_area: int = 4096,
    ) -> None:
        self.things, self.stuff = things, stuff
        self.parts = (things, stuff)
        self.min_score, self.max_overlap = min_score, max_overlap
        self.min_stuff_area = min_stuff_area
        self.info = _described(_classes(heads, things, "things"), _classes(heads, stuff, "stuff"))

    def __call__(self, results: Mapping[str, Result]) -> Result:
        """Returns `panoptic` (H, W) int32, 0 for no segment, and the list `segments`."""
        found, mask = results[self.things], results[self.stuff]["mask"]
        if "masks" not in found:
            raise ValueError(
                f"combine: expected instance masks of heads.{self.things}, got {sorted(found)};"
                " head=mask_rcnn has them"
            )
        panoptic = np.zeros(mask.shape, dtype=np.int32)
        segments = self._paint_things(panoptic, found)
        segments += self._paint_stuff(panoptic, mask, len(segments))
        return {"panoptic": panoptic, "segments": segments}

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns the panoptic quality."""
        from densekit.metrics import PanopticQuality

        return {"pq": PanopticQuality(info["names"], info["num_things"], info["stuff"])}

    def _paint_things(self, panoptic: NDArray[np.int32], found: Result) -> list[Segment]:
        """Paints instances, the best first, and returns their segments."""
        segments: list[Segment] = []
        scores = found["scores"]
        for row in np.argsort(-scores, kind="stable"):
            if scores[row] < self.min_score:
                break
            inside = decode([found["masks"][row]], panoptic.shape)[0] > 0
            free = inside & (panoptic == 0)
            area, total = int(free.sum()), int(inside.sum())
            if area == 0 or (total - area) / total > self.max_overlap:
                continue
            segments.append(self._segment(len(segments) + 1, int(found["labels"][row]), area))
            segments[-1]["score"] = float(scores[row])
            panoptic[free] = segments[-1]["id"]
        return segments

    def _paint_stuff(
        self, panoptic: NDArray[np.int32], mask: NDArray[Any], taken: int
    ) -> list[Segment]:
        """Paints the classes of the mask where there is no instance; ids follow those taken."""
        segments: list[Segment] = []
        free = panoptic == 0
        areas = np.bincount(mask[free], minlength=256)
        number_of = np.zeros(256, dtype=np.int32)  # by value of the mask
        for label, value in enumerate(self.info["stuff"], self.info["num_things"]):
            if areas[value] >= max(1, self.min_stuff_area):
                number_of[value] = taken + len(segments) + 1
                segments.append(self._segment(int(number_of[value]), label, int(areas[value])))
        panoptic[free] = number_of[mask[free]]
        return segments

    def _segment(self, number: int, label: int, area: int) -> Segment:
        name, isthing = self.info["names"][label], label < self.info["num_things"]
        return {"id": number, "label": label, "name": name, "isthing": isthing, "area": area}


def _classes(heads: Mapping[str, Mapping[str, Any]], name: str, argument: str) -> Mapping[str, Any]:
    """The description of a head with classes."""
    if name not in heads:
        raise ValueError(unknown(argument, name, heads))
    found = heads[name]
    if not {"names", "ids"} <= found.keys():
        raise ValueError(f"{argument}: expected a head with names and ids of classes, got {name}")
    return found


def _described(things: Mapping[str, Any], stuff: Mapping[str, Any]) -> dict[str, Any]:
    """Description of the merged classes; `stuff` are the values of its classes in the mask."""
    if stuff.get("multilabel"):
        raise ValueError("stuff: expected a head with one class per pixel, got multilabel=true")
    first = int(bool(stuff.get("background")))
    values = [v for v, n in enumerate(stuff["names"]) if v >= first and n not in things["names"]]
    if not values:
        raise ValueError(
            f"stuff: expected a class besides the things, got {', '.join(stuff['names'])}"
        )
    names = [*things["names"], *(stuff["names"][value] for value in values)]
    return {
        "names": names,
        "ids": [*things["ids"], *(stuff["ids"][value] for value in values)],
        "num_classes": len(names),
        "num_things": len(things["names"]),
        "stuff": values,
    }
