"""Logs how many objects the anchors or points of a detector do not reach."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from densekit._names import counted
from densekit.heads.anchors import labelled
from densekit.model import DenseModel
from densekit.ops.boxes import box_area
from densekit.training.sources import source_heads
from densekit.types import Batch

_log = logging.getLogger(__name__)


class Reach(Callback):
    """Logs, per head, how many objects of the first batches no anchor or point is trained towards.

    They are counted as the network sees them, resized and augmented, by the first process. Heads
    without anchors have no line, nor has a run that is continued.

    Args:
        batches: Number of batches that are counted.
    """

    def __init__(self, batches: int = 20) -> None:
        self.batches = batches
        self._left = 0
        self._sides: dict[str, list[Tensor]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to count, unless the run is continued."""
        is_fresh = trainer.is_global_zero and trainer.global_step == 0
        self._left, self._sides = self.batches if is_fresh else 0, {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Counts the objects of a batch."""
        if self._left == 0:
            return
        self._left -= 1
        lit: Any = pl_module
        for source, one in batch.items():
            for name in source_heads(trainer, source) or lit.model.heads:
                sides = sides_by_reach(lit.model, name, one)
                if sides is not None:
                    self._sides.setdefault(name, []).append(sides)
        if self._left == 0:
            self._report()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports a training of fewer batches."""
        if self._left:
            self._report()

    def _report(self) -> None:
        for name, parts in self._sides.items():
            _log.info("heads.%s: %s", name, reach_line(torch.cat(parts, 1), len(parts)))
        self._left, self._sides = 0, {}


@torch.no_grad()
def sides_by_reach(model: DenseModel, name: str, batch: Batch) -> Tensor | None:
    """The sides (square roots of the areas) of the objects of a batch, (2, B T) pixels.

    The first row has all objects, the second those out of reach; the rest is NaN. None if the head
    has no anchors.
    """
    padded: Any = tuple(side + -side % model.size_divisor for side in batch["image"].shape[2:])
    head: Any = model.heads[name]
    beyond = head.unreached(batch, padded)
    if beyond is None:
        return None
    side = box_area(batch["boxes"]).sqrt()
    rows = [torch.where(mask, side, torch.nan).flatten() for mask in (labelled(batch), beyond)]
    return torch.stack(rows)


def reach_line(sides: Tensor, batches: int) -> str:
    """Says how many objects are out of reach.

    Args:
        sides: See `sides_by_reach`.
        batches: Number of batches that were counted.
    """
    every, beyond = (row[~row.isnan()] for row in sides.cpu())
    of = f"{counted(len(every), 'object')} of {counted(batches, 'batch', 'batches')}"
    if len(beyond) == 0:
        return f"anchors or points reach all of the {of}"
    return (
        f"no anchor or point reaches {len(beyond)} of the {of}"
        f" ({len(beyond) / len(every):.1%}; median side {beyond.median():.0f} pixels)"
    )
