"""Targets of detection: a box and its class.

Shape letters: B images, N detections, S the sides of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from densekit.explain.naming import class_name
from densekit.explain.target import Target
from densekit.ops.boxes import box_iou
from densekit.types import Predictions


class BoxTarget(Target):
    """How well the detections still agree with one box (D-RISE, Petsiuk et al. 2021, section 3.3).

    The agreement of a detection is its score times its IoU with the box, 0 if it is of another
    class; that of an image is the largest. The gradient is that of the score of the detection with
    the largest agreement.

    Grad-CAM averages a gradient over all positions, and integrated gradients follow a path on which
    the detection is suppressed and replaced; neither holds for one box.

    Args:
        box: (4,) xyxy in the network's frame.
        label: Class of the box.
        name: Name of the class.
    """

    methods = ("rise", "layercam")
    is_local = True

    def __init__(self, box: Tensor, label: int, name: str) -> None:
        self.box, self.label, self.name = box, label, name

    def score(self, predictions: Predictions) -> Tensor:
        """Returns the largest agreements, (B,) in 0..1."""
        return self._agreement(predictions).amax(1)

    def differentiable(self, outputs: dict[str, Tensor], predictions: Predictions) -> Tensor:
        """Returns the score of the detection with the largest agreement, (B,)."""
        agreement, best = self._agreement(predictions).max(1, keepdim=True)
        score = predictions["scores"].gather(1, best)
        return torch.where(agreement > 0, score, 0.0)[:, 0]

    def outline(self, sides: Sequence[int]) -> Tensor | None:
        """Returns the rectangle of the box."""
        region = torch.zeros(tuple(sides), dtype=torch.bool)
        x1, y1, x2, y2 = (max(0, round(float(edge))) for edge in self.box)
        region[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
        return region

    @torch.no_grad()
    def _agreement(self, predictions: Predictions) -> Tensor:
        """(B, N), 0 where a row is padding or of another class; (B, 1) of 0 if N is 0."""
        boxes = predictions["boxes"].float()
        if not boxes.shape[1]:
            return boxes.new_zeros(len(boxes), 1)
        iou = box_iou(boxes, self.box.to(boxes)[None])[..., 0]
        same = predictions["valid"] & (predictions["labels"] == self.label)
        return torch.where(same, iou * predictions["scores"].float(), 0.0)


def box_targets(predictions: Predictions, info: Mapping[str, Any]) -> list[Target]:
    """Returns the boxes of one image by descending score; see `ExplainableHead`."""
    valid = predictions["valid"][0]
    boxes, labels = predictions["boxes"][0][valid].cpu(), predictions["labels"][0][valid].tolist()
    order = predictions["scores"][0][valid].argsort(descending=True, stable=True).tolist()
    return [BoxTarget(boxes[n], labels[n], class_name(info, labels[n])) for n in order]
