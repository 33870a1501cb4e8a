"""An exponential moving average of the weights, used wherever weights leave the training loop."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


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
        super().__init__()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copies the module onto the device of the run.

        At this point the module itself is still on the CPU; a copy left there would make every
        update a transfer of the whole model.
        """
        if stage == "fit":
            pl_module.configure_model()  # what is divided over processes is so before it is copied
            self._average_model = Average(pl_module, trainer.strategy.root_device, self.decay)

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


class Average(AveragedModel):
    """A copy of a module and the number of its updates, which stays on the host.

    torch's own class counts on the device and asks for the count at every update: the host would
    wait for the whole training step before it could begin the next.

    Args:
        model: Copied, parameters and buffers.
        device: Where the copy is.
        decay: See `Ema`.
    """

    def __init__(self, model: nn.Module, device: torch.device, decay: float) -> None:
        super().__init__(model, device, use_buffers=True)
        self.n_averaged = torch.tensor(0)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Moves the average towards a model of the same architecture on the same device."""
        count = int(self.n_averaged)
        decay = min(self.decay, (1 + count) / (10 + count)) if count else 0.0
        pairs = list(zip(_tensors(self.module), _tensors(model), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        # The others are counters, such as the batches that a batch norm has seen.
        copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        if floats:
            averages, currents = zip(*floats, strict=True)
            torch._foreach_lerp_(averages, currents, 1.0 - decay)
        for average, current in copied:
            average.copy_(current, non_blocking=True)
        self.n_averaged += 1


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]
