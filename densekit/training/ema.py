"""An exponential moving average of the weights, used wherever weights leave the training loop."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class Ema(WeightAveraging):
    """Averages the weights after every optimiser step (Polyak & Juditsky).

    Validation runs on the averaged weights and checkpoints hold them as `state_dict`; the weights
    that training goes on with stand beside them in the checkpoint. Early on the average follows
    faster, with the decay `(1 + n) / (10 + n)` after n updates, so that it forgets the start.

    Args:
        decay: What the average keeps of itself a step, between 0 and 1.

    Raises:
        ValueError: `decay` is outside its range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"callbacks.ema.decay: found {decay}, expected a number in [0, 1)")
        self.decay = decay
        self._swapped = False
        super().__init__(multi_avg_fn=self._update)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copies the module onto the device of the run.

        At this point the module itself is still on the CPU; a copy left there would make every
        update a transfer of the whole model.
        """
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets go of the average, which the module holds by now.

        Kept, it would give the module the unaveraged weights of a checkpoint that is tested later.
        """
        self._average_model = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes up the average of the run that is resumed; what is only measured has none."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Gives the module its own weights back, for the checkpoint that is saved next."""
        if self._swapped:
            self._swap_models(pl_module)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped

    @torch.no_grad()
    def _update(self, averages: Any, currents: Any, num_averaged: Tensor | int) -> None:
        count = int(num_averaged)
        decay = min(self.decay, (1 + count) / (10 + count))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(averages, currents, 1.0 - decay)
        else:  # counters, such as the batches that a batch norm has seen
            torch._foreach_copy_(averages, currents)
