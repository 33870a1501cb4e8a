"""Tells the phases of a training apart, by the actions that Lightning reports to its profiler."""

from __future__ import annotations

from functools import cache
from typing import Any, Protocol

from lightning.pytorch import Trainer
from lightning.pytorch.profilers import Profiler

PHASES = ("loading", "transfer", "forward", "backward", "optimizer", "evaluation", "saving")
ACTIONS = {
    "loading": ("[_TrainingEpochLoop].train_dataloader_next",) * 2,
    "transfer": ("[Strategy].batch_to_device",) * 2,
    "forward": ("[Strategy].training_step",) * 2,
    # The backward pass of a micro-batch is no action, but has these hooks too.
    "backward": ("[LightningModule].on_before_backward", "[LightningModule].on_after_backward"),
    "optimizer": ("[LightningModule].optimizer_step",) * 2,
    "evaluation": ("[LightningModule].on_validation_model_eval", "[Strategy].on_validation_end"),
    "saving": ("save_checkpoint",) * 2,
}
"""Phase to the action with whose start it begins, and to that with whose stop it ends."""
_BEGINS = {first: phase for phase, (first, _) in ACTIONS.items()}
_ENDS = {last: phase for phase, (_, last) in ACTIONS.items()}


class Listener(Protocol):
    """What is told of phases; they may be nested, and one may begin within itself."""

    def begin(self, phase: str) -> None:
        """A phase of `PHASES` begins."""

    def end(self, phase: str) -> None:
        """It ends, and with it all that began within it."""


class PhaseActions(Profiler):
    """Tells listeners of phases, and passes every action on to the former profiler.

    Args:
        profiler: Of the trainer, so far.
    """

    def __init__(self, profiler: Profiler) -> None:
        super().__init__()
        self.profiler = profiler
        self.listeners: list[Listener] = []

    def start(self, action_name: str) -> None:
        """Begins a phase if the action does."""
        if phase := _BEGINS.get(_short(action_name)):
            for listener in self.listeners:
                listener.begin(phase)
        self.profiler.start(action_name)

    def stop(self, action_name: str) -> None:
        """Ends a phase if the action does."""
        self.profiler.stop(action_name)
        if phase := _ENDS.get(_short(action_name)):
            for listener in self.listeners:
                listener.end(phase)


def listen(trainer: Trainer, listener: Listener) -> None:
    """Tells a listener of all phases from now on."""
    slot: Any = trainer
    if not isinstance(slot.profiler, PhaseActions):
        slot.profiler = PhaseActions(slot.profiler)
    slot.profiler.listeners.append(listener)


def leave(trainer: Trainer, listener: Listener) -> None:
    """Ends what `listen` began, if it did; the last listener restores the former profiler."""
    slot: Any = trainer
    if isinstance(slot.profiler, PhaseActions) and listener in slot.profiler.listeners:
        slot.profiler.listeners.remove(listener)
        if not slot.profiler.listeners:
            slot.profiler = slot.profiler.profiler


@cache
def _short(action: str) -> str:
    """`[KIND]CLASS.HOOK` without the class."""
    kind, bracket, rest = action.partition("]")
    return f"{kind}].{rest.rpartition('.')[2]}" if bracket else action
