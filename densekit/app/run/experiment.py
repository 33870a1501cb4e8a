"""An experiment in Python: the data sets and the model that `densekit train` would begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from densekit.data import Source
    from densekit.model import DenseModel


class Experiment(NamedTuple):
    """What a configuration describes.

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
    """Builds the data sets and the model of a configuration; nothing is written.

        sources, model, config = compose(["experiment=quickstart", "backbone=resnet34"])
        batch = next(iter(sources["scenes"].train_loader()))
        losses = model.loss(batch)

    The generators of Python, NumPy and torch are seeded with `seed`, so the weights are those that
    a run of these words begins with.

    Args:
        overrides: The words of `densekit train`.

    Raises:
        ValueError: A word is wrong, or data and model do not fit; the message names the key.
    """
    from lightning.pytorch import seed_everything

    from densekit.app.config.overrides import parse
    from densekit.app.run.job import configuration, prepared
    from densekit.app.run.start import initial_model

    job = prepared(configuration(parse(overrides)))
    seed_everything(int(job.cfg["seed"]), workers=True, verbose=False)
    return Experiment(job.sources, initial_model(job.cfg, job.sources), job.cfg)
