"""Exponential moving average of the weights, for validation and checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from densekit.ops.dist import own_part


class Ema(WeightAveraging):
    """Averages the weights after every optimiser step (Polyak & Juditsky).

    Validation runs on the averaged weights and checkpoints hold them as `state_dict`, beside the
    raw weights that training continues from. After n updates the decay is at most
    `(1 + n) / (10 + n)`, so that the average soon forgets the initial weights.

    Args:
        decay: Share of the average kept per step, in [0, 1).

    Raises:
        ValueError: `decay` is out of range.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"callbacks.ema.decay: expected a number in [0, 1), got {decay}")
        self.decay = decay
        self._swapped = False
        super().__init__()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copies the module onto the device of the run.

        At this point the module itself is still on the CPU; with a copy there, every update would
        transfer the whole model.
        """
        if stage == "fit":
            pl_module.configure_model()  # shards parameters before they are copied
            self._average_model = Average(pl_module, trainer.strategy.root_device, self.decay)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Divides the average over processes, if the module's weights are."""
        divide = getattr(trainer.strategy, "divide", None)
        if divide is not None and self._average_model is not None:
            divide(self._average_model.module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Drops the average, whose weights the module now has.

        Otherwise it would load the raw weights of a checkpoint that is tested later.
        """
        self._average_model = None

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restores the average of a resumed run; evaluations have none."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Gives the module its raw weights back, for the checkpoint that is saved next."""
        if self._swapped:
            self._swap_models(pl_module)

    @contextmanager
    def averaged(self, pl_module: LightningModule) -> Iterator[None]:
        """Context in which the module has the averaged weights, if there are any."""
        swaps = self._average_model is not None and not self._swapped
        if swaps:
            self._swap_models(pl_module)
        try:
            yield
        finally:
            if swaps:
                self._swap_models(pl_module)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped


class Average(AveragedModel):
    """A moving average of a module that counts its updates on the host.

    torch's own class counts on the device and reads the count at every update: the host would wait
    for the whole training step before it could queue the next.

    Args:
        model: Copied, parameters and buffers.
        device: Of the copy.
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
        # The others are counters, such as `num_batches_tracked` of batch norms.
        copied = [pair for pair in pairs if not pair[0].is_floating_point()]
        if floats:
            averages, currents = zip(*floats, strict=True)
            torch._foreach_lerp_(averages, currents, 1.0 - decay)
        for average, current in copied:
            average.copy_(current, non_blocking=True)
        self.n_averaged += 1


@contextmanager
def evaluated_weights(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Context in which a module has the weights that its evaluations have."""
    with ExitStack() as stack:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Ema):
                stack.enter_context(callback.averaged(pl_module))
        yield


def _tensors(module: nn.Module) -> list[Tensor]:
    """The tensors of a module; of divided ones the parts of this process."""
    return [own_part(tensor.detach()) for tensor in (*module.parameters(), *module.buffers())]
