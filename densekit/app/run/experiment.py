"""Experiments in Python: train one, or build the data sets and the model it begins with."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from densekit.data import Source
    from densekit.inference import Predictor
    from densekit.model import DenseModel


@dataclass(frozen=True)
class Run:
    """A finished run of `train`.

    Attributes:
        folder: Everything that it wrote.
    """

    folder: Path

    @property
    def metrics(self) -> dict[str, float]:
        """The final metrics, `{"test/detection/AP50": 0.71, ...}`; empty if nothing was measured.

        NaN stands for a metric that had nothing to measure.
        """
        from densekit.app.run.folder import METRICS
        from densekit.app.terminal import read_metrics

        file = self.folder / METRICS
        return read_metrics(file) if file.is_file() else {}

    @property
    def stopped(self) -> str | None:
        """Why the training ended; None if the run wrote no `metrics.json`."""
        from densekit.app.run.folder import METRICS
        from densekit.app.terminal import read_end

        return read_end(self.folder / METRICS)

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint, or the last one if no metric was monitored.

        Raises:
            ValueError: The run kept no checkpoint.
        """
        from densekit.training import best_checkpoint

        found: Path = best_checkpoint(self.folder / "checkpoints")
        return found

    def predictor(self, **settings: Any) -> Predictor:
        """A `Predictor` of the best checkpoint.

        Args:
            settings: Arguments of `Predictor`, such as `device="cuda"`.
        """
        from densekit.inference import Predictor

        return Predictor(self.checkpoint, **settings)


class Experiment(NamedTuple):
    """The data sets and the model of a configuration.

    Attributes:
        sources: The data sets by name.
        model: Freshly initialised, or with the weights of `checkpoint=PATH`.
        config: All values, resolved: `densekit.build.instantiate(config["optimizer"], "optimizer")`
            builds another part.
    """

    sources: dict[str, Source]
    model: DenseModel
    config: dict[str, Any]


def train(*overrides: str) -> Run:
    """Trains, validates and tests as `densekit train` does, and writes the same run folder.

        run = train("experiment=quickstart", "optimizer.lr=1e-3")
        run.metrics["test/detection/AP50"]
        results = run.predictor()("image.png")

    It works in scripts, with and without `if __name__ == "__main__"`, and in notebooks, any number
    of times per process; `trainer.devices=2` starts processes of its own.

    Args:
        overrides: The arguments of `densekit train`, except its flags.

    Raises:
        ValueError: An override is wrong, or data and model do not fit; the message names the key.
        KeyboardInterrupt: Ctrl-C; the run is saved and prints how to continue it.
        SystemExit: The process is told to end by SIGTERM or SIGHUP; the run is saved.
    """
    from densekit.app.config.overrides import parse
    from densekit.app.errors import Stopped
    from densekit.app.run import job
    from densekit.app.terminal import console_logging

    _check_texts(overrides)
    try:
        with console_logging():
            return Run(job.train(job.configuration(parse(overrides))))
    except Stopped as stop:
        if stop.signal == signal.SIGINT:
            raise KeyboardInterrupt(str(stop)) from None
        raise SystemExit(stop.code) from None


def compose(*overrides: str) -> Experiment:
    """Builds the data sets and the model of a configuration; writes nothing.

        sources, model, config = compose("experiment=quickstart", "backbone=resnet34")
        batch = next(iter(sources["scenes"].train_loader()))
        losses = model.loss(batch)

    The generators of Python, NumPy and torch are seeded with `seed`, so the weights are those that
    a run with these overrides begins with.

    Args:
        overrides: The arguments of `densekit train`.

    Raises:
        ValueError: An override is wrong, or data and model do not fit; the message names the key.
    """
    from lightning.pytorch import seed_everything

    from densekit.app.config.overrides import parse
    from densekit.app.run.job import configuration, prepared
    from densekit.app.run.start import initial_model

    _check_texts(overrides)
    job = prepared(configuration(parse(overrides)))
    seed_everything(int(job.cfg["seed"]), workers=True, verbose=False)
    return Experiment(job.sources, initial_model(job.cfg, job.sources), job.cfg)


def _check_texts(overrides: Sequence[Any]) -> None:
    """Refuses a list of overrides in place of the overrides themselves."""
    for word in overrides:
        if not isinstance(word, str):
            raise ValueError(
                f"overrides: expected arguments like 'optimizer.lr=1e-3', got {word!r};"
                " write *overrides to pass a list of them"
            )
