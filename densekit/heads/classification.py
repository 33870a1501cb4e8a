"""Classification of whole images: global average pooling, dropout, one linear layer.

Shape letters: B images, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from densekit.heads.base import Head, check_threshold
from densekit.ops.pooling import mean_inside
from densekit.types import Batch, Decision, Features, FeatureSpec, Predictions

if TYPE_CHECKING:
    from torchmetrics import Metric


class Classification(Head):
    """Predicts one class or several labels per image (He et al. 2016, section 3.3).

    Pooling leaves out the padding of each image, so that images of different sizes give the same
    result in a batch as alone; for equal sizes it is torchvision's. Takes series, 2-D images and
    volumes.

    Args:
        specs: Specs of all available levels.
        num_classes: K.
        level: The level that is pooled; the backbone's deepest by default.
        multilabel: Whether the K classes are independent (a sigmoid each; category (B, K) of 0 and
            1) or exclusive (softmax; category (B,) of 0..K-1, or soft targets (B, K)).
        dropout: Probability of zeroing a pooled channel during training.
        losses: Term name to loss, see `densekit.losses.categories`; cross-entropy by default,
            binary if multi-label.
        threshold: Probability from which a label counts, if multi-label; one per class, or one for
            all. Losses do not depend on it.

    Raises:
        ValueError: There are too few classes, or a threshold is no probability.
    """

    target_keys = ("category",)

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        *,
        level: str | None = None,
        multilabel: bool = False,
        dropout: float = 0.0,
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        threshold: Decision | None = None,
    ) -> None:
        super().__init__()
        fewest = 1 if multilabel else 2
        if num_classes < fewest:
            raise ValueError(f"num_classes: expected at least {fewest}, got {num_classes}")
        level = _deepest(specs) if level is None else level
        self.level, self.multilabel = level, multilabel
        self.threshold = check_threshold(threshold, num_classes)
        self.main_metric = ("mAP" if multilabel else "accuracy", "max")
        self.reads = (level,)
        self.stride = specs[level].stride
        self.losses = nn.ModuleDict(
            cast(Mapping[str, nn.Module], losses or _default_losses(multilabel))
        )
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(specs[level].channels, num_classes)

    def forward(self, features: Features, size: Tensor) -> dict[str, Tensor]:
        """Returns the logits of every image.

        Returns:
            logits (B, K).
        """
        pooled = mean_inside(features[self.level], size, self.stride)  # (B, C)
        return {"logits": self.fc(self.dropout(pooled))}

    def decode(self, outputs: dict[str, Tensor], size: Tensor) -> Predictions:
        """Turns logits into `probabilities` or `multilabel_probabilities`, (B, K) float32.

        Rows of `probabilities` sum to 1; `multilabel_probabilities` are independent sigmoids.
        """
        logits = outputs["logits"].float()
        if self.multilabel:
            return {"multilabel_probabilities": logits.sigmoid()}
        return {"probabilities": logits.softmax(1)}

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Returns one term per loss."""
        logits = self(features, batch["size"])["logits"]
        return {name: loss(logits, batch["category"]) for name, loss in self.losses.items()}

    def make_metrics(self, info: Mapping[str, Any]) -> dict[str, Metric]:
        """Returns accuracy and calibration error; mean average precision if multi-label."""
        from densekit.metrics import Accuracy, CalibrationError, MultilabelMap

        names = list(info["names"])
        if self.multilabel:
            return {"map": MultilabelMap(names)}
        return {"accuracy": Accuracy(names), "calibration": CalibrationError()}


def _deepest(specs: Mapping[str, FeatureSpec]) -> str:
    """The last level of the backbone (`c...`); a neck's levels begin with another letter."""
    return [level for level in specs if level.startswith("c")][-1]


def _default_losses(multilabel: bool) -> dict[str, nn.Module]:
    from densekit.losses import ImageBinaryCrossEntropy, ImageCrossEntropy

    return {"bce": ImageBinaryCrossEntropy()} if multilabel else {"ce": ImageCrossEntropy()}
