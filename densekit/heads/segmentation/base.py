"""The base class of segmentation heads: full-size logits, memory-saving losses, metrics.

Shape letters: B images, K classes, D spatial dimensions, S the D sizes of the padded image, s those
of a level.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from densekit._names import check_keys
from densekit.heads.base import Head, check_threshold
from densekit.ops.interpolation import resize_labels, resize_linear
from densekit.ops.padding import pad_end
from densekit.types import IGNORE_INDEX, Batch, Decision, Features, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric

MAX_CLASSES = IGNORE_INDEX
"""Most classes that a uint8 mask can hold beside the ignored value."""


class Supervised(NamedTuple):
    """Logits of one output that the losses are applied to.

    Attributes:
        logits: (B, K, *s).
        name: Prefix of its terms; empty for the main output.
        weight: Factor of its terms.
        full_size: Whether the logits are resized to the image, or the mask to the logits.
    """

    logits: Tensor
    name: str = ""
    weight: float = 1.0
    full_size: bool = True


class Segmentation(Head):
    """Predicts one logit per class and pixel.

    A subclass computes logits at its final resolution (`low_resolution`); this class interpolates
    them to the size of c0, compares them with the mask and decodes them. A single class (K = 1) is
    binary: its logit goes through a sigmoid, the mask is 0 or 1.

    All losses share one map of full-size logits, and those of `densekit.losses` (except `Lovasz`
    and `Boundary`, one map each) keep nothing else of that size for backward. If the last layer
    works at full size, that map is its output, in 16 bits under autocast.

    Args:
        num_classes: K.
        multilabel: Whether the K classes are independent (a sigmoid each; masks (B, K, *S) of 0
            and 1) or exclusive (softmax; a mask (B, *S) of 0..K-1).
        losses: Term name to loss, see `densekit.losses`; cross-entropy by default.
        loss_weights: Term name to factor, 1 by default.
        align_corners: Whether logits (and the maps of decoders that say so) are interpolated with
            the centres of the outermost pixels in place, not their edges.

    Raises:
        ValueError: The number of classes is out of range, or a weight names no loss.
    """

    target_keys = ("mask",)
    main_metric = ("mIoU", "max")

    def __init__(
        self,
        num_classes: int,
        *,
        multilabel: bool = False,
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        align_corners: bool = False,
        threshold: Decision | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(f"num_classes: expected 1 to {MAX_CLASSES}, got {num_classes}")
        self.num_classes, self.multilabel = num_classes, multilabel
        self.align_corners = align_corners
        self.threshold = check_threshold(threshold, num_classes)
        self.losses = nn.ModuleDict(cast(Mapping[str, nn.Module], losses or _default_losses()))
        check_keys("loss_weights", loss_weights or {}, self.losses)
        self.loss_weights = {name: 1.0 for name in self.losses} | dict(loss_weights or {})

    @abstractmethod
    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the head's final resolution."""

    def supervised(self, features: Features) -> list[Supervised]:
        """Returns the outputs to supervise, the main one first; subclasses add auxiliary ones."""
        return [Supervised(self.low_resolution(features))]

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns the logits of every pixel.

        Returns:
            logits (B, K, *S) at the size of c0.
        """
        return {"logits": self._to_size(self.low_resolution(features), features["c0"].shape[2:])}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Returns the outputs as `logits` or `multilabel_logits`.

        Classes are decided at the original size, see `densekit.inference.restore.restore_mask`.
        """
        return {"multilabel_logits" if self.multilabel else "logits": outputs["logits"]}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns one term per loss, and `OUTPUT_LOSS` for each auxiliary output."""
        sides = features["c0"].shape[2:]
        mask = _padded(batch["mask"], sides)
        terms: dict[str, Tensor] = {}
        for output in self.supervised(features):
            logits, target = output.logits, mask
            if output.full_size:
                logits = self._to_size(logits, sides)
            else:
                target = resize_labels(mask, logits.shape[2:])  # as nnU-Net does
            for name, loss in self.losses.items():
                term = f"{output.name}_{name}" if output.name else name
                terms[term] = loss(logits, target) * (self.loss_weights[name] * output.weight)
        return terms

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns the IoU of each class, what is derived from it, and the calibration."""
        from densekit.metrics import MaskCalibration, MeanIoU

        names, background = list(info["names"]), bool(info.get("background", False))
        return {
            "iou": MeanIoU(names, background=background, multilabel=self.multilabel),
            "calibration": MaskCalibration(
                names, background=background, multilabel=self.multilabel
            ),
        }

    def _to_size(self, logits: Tensor, sides: Sequence[int]) -> Tensor:
        """Interpolates (B, K, *s) to (B, K, *S), in at least float32."""
        if tuple(logits.shape[2:]) == tuple(sides):
            return logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return resize_linear(logits, sides, align_corners=self.align_corners)


def _default_losses() -> dict[str, nn.Module]:
    from densekit.losses import PixelCrossEntropy

    return {"ce": PixelCrossEntropy()}


def _padded(mask: Tensor, sides: Sequence[int]) -> Tensor:
    """Pads a mask (B, ..., *S) like the image, with the ignored value."""
    missing = [side - have for side, have in zip(sides, mask.shape[-len(sides) :], strict=True)]
    return pad_end(mask, missing, IGNORE_INDEX)
