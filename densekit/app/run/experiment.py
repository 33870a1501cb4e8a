"""An experiment in Python: the data sets and the model that `densekit train` begins with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from densekit.data import Source
    from densekit.model import DenseModel


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


def compose(overrides: Sequence[str] = ()) -> Experiment:
    """Builds the data sets and the model of a configuration; writes nothing.

        sources, model, config = compose(["experiment=quickstart", "backbone=resnet34"])
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

    job = prepared(configuration(parse(overrides)))
    seed_everything(int(job.cfg["seed"]), workers=True, verbose=False)
    return Experiment(job.sources, initial_model(job.cfg, job.sources), job.cfg)
