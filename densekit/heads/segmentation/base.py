"""What every segmentation head shares: full-size logits, losses that keep little, metrics.

Shape letters: B images, K classes, D spatial dimensions, S the D sizes of the padded image, s those
of a level.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor, nn

from densekit._names import check_keys
from densekit.heads.base import Head
from densekit.ops.interpolation import resize_labels, resize_linear
from densekit.ops.padding import pad_end
from densekit.types import IGNORE_INDEX, Batch, Features, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric

MAX_CLASSES = IGNORE_INDEX
"""Classes a mask of uint8 can tell apart beside the ignored value."""


class Supervised(NamedTuple):
    """Logits that a loss looks at.

    Attributes:
        logits: (B, K, *s).
        name: What its terms begin with; empty for the output itself.
        weight: Factor of its terms.
        full_size: Whether the logits are brought to the image's size, or the mask to theirs.
    """

    logits: Tensor
    name: str = ""
    weight: float = 1.0
    full_size: bool = True


class Segmentation(Head):
    """Features to one logit a class and pixel.

    A sub-class computes logits at whatever resolution it ends (`low_resolution`); here they are
    interpolated to the size of c0, compared with the mask and decoded. One class (K = 1) is
    binary: its logit goes through a sigmoid, the mask is 0 or 1.

    All losses share one map of full-size logits, and those of `densekit.losses` (but `Lovasz` and
    `Boundary`, one map each) keep nothing else of that size for backward. Where the last layer
    works at full size the map is its output, in 16 bits under autocast.

    Args:
        num_classes: K.
        multilabel: Whether the classes are K questions with masks (B, K, *S) of 0 and 1, or one
            question with a mask (B, *S) of 0..K-1.
        losses: Term name to loss, see `densekit.losses`; cross-entropy by default.
        loss_weights: Term name to its factor, 1 where none is given.

    Raises:
        ValueError: The number of classes is out of range, or a weight is for no loss.
    """

    target_keys = ("mask",)
    main_metric = ("mIoU", "max")
    align_corners: ClassVar[bool] = False
    """How the logits are interpolated; smp's decoders that end at a coarse stride align corners."""

    def __init__(
        self,
        num_classes: int,
        *,
        multilabel: bool = False,
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        loss_weights: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= num_classes <= MAX_CLASSES:
            raise ValueError(f"num_classes: found {num_classes}, accepted are 1 to {MAX_CLASSES}")
        self.num_classes, self.multilabel = num_classes, multilabel
        self.losses = nn.ModuleDict(cast(Mapping[str, nn.Module], losses or _default_losses()))
        check_keys("loss_weights", loss_weights or {}, self.losses)
        self.loss_weights = {name: 1.0 for name in self.losses} | dict(loss_weights or {})

    @abstractmethod
    def low_resolution(self, features: Features) -> Tensor:
        """Logits (B, K, *s) at the resolution the head ends with."""

    def supervised(self, features: Features) -> list[Supervised]:
        """What the losses look at, the output first; a sub-class adds auxiliary outputs."""
        return [Supervised(self.low_resolution(features))]

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Logits of every pixel.

        Returns:
            logits (B, K, *S) at the size of c0.
        """
        return {"logits": self._to_size(self.low_resolution(features), features["c0"].shape[2:])}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """The logits under the name that says what they are: `logits` or `multilabel_logits`.

        Classes are taken at the original size, see `densekit.inference.restore.restore_mask`.
        """
        return {"multilabel_logits" if self.multilabel else "logits": outputs["logits"]}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """One term a loss, and for each auxiliary output one `OUTPUT_LOSS`."""
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
        """Intersection over union of each class, and what comes with it."""
        from densekit.metrics import MeanIoU

        return {
            "iou": MeanIoU(
                names=list(info["names"]),
                background=bool(info.get("background", False)),
                multilabel=self.multilabel,
            )
        }

    def _to_size(self, logits: Tensor, sides: Sequence[int]) -> Tensor:
        """Interpolates (B, K, *s) to (B, K, *S), in float32 at least."""
        if tuple(logits.shape[2:]) == tuple(sides):
            return logits
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return resize_linear(logits, sides, align_corners=self.align_corners)


def _default_losses() -> dict[str, nn.Module]:
    from densekit.losses import PixelCrossEntropy

    return {"ce": PixelCrossEntropy()}


def _padded(mask: Tensor, sides: Sequence[int]) -> Tensor:
    """Mask (B, ..., *S) with the model's padding, of which nothing is learnt."""
    missing = [side - have for side, have in zip(sides, mask.shape[-len(sides) :], strict=True)]
    return pad_end(mask, missing, IGNORE_INDEX)
