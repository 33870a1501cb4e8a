"""Ends a run on a signal: between two steps, in all processes at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from densekit._signals import STOPS
from densekit.ops import dist
from densekit.training.loop_state import is_accumulating

PATIENCE = 1.0
"""Seconds after which another Ctrl-C is a second one, not the same forwarded by a launcher."""


class Stopping(Callback):
    """Ends a run on SIGTERM, Ctrl-C or SIGHUP at a point from which it can be resumed.

    During training, validation and test a signal is only recorded. After the step or batch the
    processes agree, and Lightning ends the run in all of them (`SIGTERMException`); `Checkpoint`
    saves. At any other time there is nothing to save, and the process ends at once, as it does at a
    second Ctrl-C.

    Attributes:
        signal: The signal received, None before.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._since = 0.0
        self._looping = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handles the signals within the context; those already ignored stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in STOPS}
        taken = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        for number in taken:
            signal.signal(number, self._note)
        try:
            yield
        finally:
            for number in taken:
                signal.signal(number, before[number])

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Keeps Lightning's handler from communicating with other processes within a step."""
        trainer._signal_connector._sigterm_notifier_fn = _nothing  # type: ignore[assignment]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defers signals to the end of the step from here on."""
        self._looping = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ends the run after the step if a signal was received."""
        self._agree(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defers signals to the end of the batch, also without a training."""
        self._looping = True

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any
    ) -> None:
        """Ends the run within validation, which a resumed run repeats from its start."""
        self._agree(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Defers signals to the end of the batch."""
        self._looping = True

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Ends the run within the test if a signal was received."""
        self._agree(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lets signals end the process at once from here on."""
        self._looping = False

    def _agree(self, trainer: Trainer, pl_module: LightningModule) -> None:
        asked = self.signal is not None
        if trainer.world_size > 1:  # perhaps only some got the signal, as when one node is drained
            flag = torch.tensor(float(self.signal or 0), device=pl_module.device)
            number = int(dist.max_over_processes(flag))
            asked = number > 0
            if asked and self.signal is None:
                self.signal = signal.Signals(number)
        training = trainer.state.fn == TrainerFn.FITTING
        if asked and not (training and is_accumulating(trainer)):  # gradients are in no checkpoint
            trainer._signal_connector.received_sigterm = True

    def _note(self, number: int, frame: FrameType | None) -> None:
        now, again = time.monotonic(), self.signal is not None
        if again and (number != signal.SIGINT or now - self._since < PATIENCE):
            return
        self.signal, self._since = signal.Signals(number), now
        if again or (number == signal.SIGINT and not self._looping):
            raise KeyboardInterrupt
        if not self._looping:
            raise SystemExit(128 + number)
        if dist.rank() == 0:  # not through Python's buffers, which the signal may have interrupted
            os.write(2, f"{self.signal.name}: the run ends after this step\n".encode())


def _nothing(*_: Any) -> None:
    """Replaces Lightning's signal handler."""
