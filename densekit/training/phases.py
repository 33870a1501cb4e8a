"""Where the time of a training goes, and what to do if it waits for its data."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from densekit.training.phase_actions import leave, listen
from densekit.training.phase_clock import Clock, clock_for
from densekit.training.sources import sources_of

SLOW = 0.2
"""Share of the training spent in waiting for the loader from which on the run warns."""
PATIENCE = 60.0
"""Seconds after which it warns, if the run does not end before."""

_log = logging.getLogger(__name__)


class Phases(Callback):
    """Measures the time of loading, transfer, forward, backward, optimiser, evaluation and saving.

    Logs the seconds of every epoch as `time/PHASE`, and at the end of the training the shares of
    all of it. If the training waits for its loader, a warning names the settings that mend it. On
    a GPU events are recorded on its time line, which costs no waiting; loading is then the time in
    which the GPU has nothing to do.

    With several processes the times are those of the first one; a loader that is slow in another
    one shows in its backward pass, which waits for the others.
    """

    def __init__(self) -> None:
        self._clock: Clock | None = None
        self._logged: dict[str, float] = {}
        self._is_warned = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        if trainer.is_global_zero:
            self._clock = clock_for(pl_module.device)
            self._logged = dict(self._clock.seconds)
            self._is_warned = False
            listen(trainer, self._clock)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Warns once it is clear that the loader is too slow."""
        if self._clock is None or self._is_warned:
            return
        if sum(self._clock.seconds.values()) > PATIENCE:
            self._warn(trainer, self._clock.seconds)
            self._is_warned = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the seconds of the epoch."""
        if self._clock is None:
            return
        seconds, before = dict(self._clock.seconds), self._logged
        times = {f"time/{phase}": seconds[phase] - before[phase] for phase in seconds}
        pl_module.log_dict(times, rank_zero_only=True)
        self._logged = seconds

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the shares of the whole training."""
        clock, self._clock = self._clock, None
        if clock is None:
            return
        leave(trainer, clock)
        clock.stop()
        _log.info("%s", shares(clock.seconds))
        if not self._is_warned:
            self._warn(trainer, clock.seconds)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Stops to measure."""
        if self._clock is not None:
            leave(trainer, self._clock)
            self._clock = None

    def _warn(self, trainer: Trainer, seconds: Mapping[str, float]) -> None:
        share = waiting(seconds)
        if share >= SLOW:
            _log.warning(
                "%.0f %% of the training is spent waiting for the loader: %s",
                *(100 * share, cure(trainer)),
            )


def waiting(seconds: Mapping[str, float]) -> float:
    """The share of loading in the time of the training steps."""
    steps = sum(seconds.values()) - seconds["evaluation"] - seconds["saving"]
    return seconds["loading"] / steps if steps > 0 else 0.0


def shares(seconds: Mapping[str, float]) -> str:
    """Describes which share of the time each phase has taken."""
    total = sum(seconds.values())
    parts = [f"{phase} {100 * time / total:.0f} %" for phase, time in seconds.items()]
    return f"time: {', '.join(parts)} of {total:.0f} s"


def cure(trainer: Trainer) -> str:
    """Names the settings that make the loaders of a run faster.

    More processes help until every core is busy; then there must be less to do.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (len(affinity(0)) if affinity else os.cpu_count() or 1) // trainer.num_devices
    words = []
    loaders: Any = trainer.train_dataloader
    for name, source in sources_of(trainer).items():
        workers = loaders[name].num_workers if name in loaders else cores
        if workers < cores - 1:
            words.append(f"data.{name}.num_workers={cores - 1} (now {workers})")
        if getattr(source.train, "cache", "") is None:
            words.append(f"data.{name}.train.cache=FOLDER")
    if words:
        return f"try {', '.join(words)}"
    return (
        f"its processes already have the {cores} cores of this one; store the images no larger than"
        " the network sees them, or augment less"
    )
