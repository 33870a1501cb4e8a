"""The network of any experiment or checkpoint, on its own data or on rendered images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from densekit.app.errors import UsageError
from densekit.app.options.shared import checkpoint_file
from densekit.app.studies.benchmark.images import batch_of, moved, noise_for
from densekit.app.studies.benchmark.pair import Options, as_text, our_rows, their_rows
from densekit.app.studies.benchmark.peers import NoPeerError, check_predictions, peer_pair
from densekit.app.studies.benchmark.work import Row, Work
from densekit.data import Scenes
from densekit.inference import WholeImage
from densekit.layers import channels_last_weights
from densekit.model import DenseModel
from densekit.types import Batch, Predictions


class Subject(NamedTuple):
    """What is timed.

    Attributes:
        model: The network.
        inferer: How it predicts a batch.
        batch: Of its data or rendered.
        heads: The heads that the batch trains.
    """

    model: DenseModel
    inferer: Any
    batch: Batch
    heads: list[str]


def own_work(options: Options, words: Sequence[str]) -> Work:
    """A training step or a prediction of an experiment or a checkpoint.

    Args:
        options: Those of the command.
        words: Overrides of the configuration.

    Raises:
        UsageError: An option does not fit the other ones.
    """
    _check(options, words)
    make = _of_experiment if is_experiment(words) else _of_checkpoint
    subject = make(options, words)
    model, inferer, batch, heads = subject
    model.to(options["device"])
    channels_last_weights(model)
    if options["step"] == "predict":
        batch = model.resized(batch)

    def predict(one: DenseModel) -> dict[str, Predictions]:
        found: dict[str, Predictions] = inferer.predict(one, batch)
        return found

    proof, theirs = _peer(model, inferer, batch, options)
    count, *sides = (batch["image"].shape[i] for i in (0, *range(2, batch["image"].ndim)))
    by = "" if options["step"] == "train" else f", {type(inferer).__name__}"
    name = options["checkpoint"] or next(w for w in words if w.startswith("experiment="))
    return Work(
        f"{options['step']}: {name}{by}, {count} x {as_text(sides)}",
        proof,
        [*theirs, *our_rows(model, batch, options, predict, heads)],
    )


def _peer(
    model: DenseModel, inferer: Any, batch: Batch, options: Options
) -> tuple[str, Sequence[Row]]:
    """What was found equal to a peer's network with our weights, and the peer's rows."""
    try:
        if type(inferer) is not WholeImage:
            raise NoPeerError(f"expected WholeImage as inferer, got {type(inferer).__name__}")
        pair = peer_pair(model, batch)
        check_predictions(pair)
        rows = their_rows(pair, options)
    except NoPeerError as error:
        return f"nothing, there is no peer ({error})", []
    return f"predictions to those of {pair.peer} with the same weights", rows


def is_experiment(words: Sequence[str]) -> bool:
    """Whether the overrides choose an experiment."""
    return any(word.startswith("experiment=") for word in words)


def _check(options: Options, words: Sequence[str]) -> None:
    if options["step"] == "train" and not is_experiment(words):
        raise UsageError(
            "step: expected predict for a checkpoint alone, got train;"
            " experiment=NAME checkpoint=PATH trains from it"
        )
    if options["step"] == "train" and options["size"]:
        raise UsageError(
            "size: expected no value for a training step, whose images are those of the"
            f" experiment, got {options['size']}"
        )
    if options["batch"] and not options["size"]:
        raise UsageError(
            f"batch: expected a value only together with size, got {options['batch']};"
            " data.NAME.batch_size=N for images of the experiment"
        )


def _of_experiment(options: Options, words: Sequence[str]) -> Subject:
    from densekit.app.run.experiment import compose
    from densekit.build import instantiate

    path = options["checkpoint"]
    start = [f"checkpoint={checkpoint_file(path)}"] if path else []
    sources, model, cfg = compose(*words, *start)
    inferer = instantiate(cfg["inferer"], "inferer") if cfg["inferer"] else WholeImage()
    if options["size"]:
        return Subject(model, inferer, _rendered(model, options), list(model.heads))
    source = next(iter(sources.values()))
    return Subject(model, inferer, _first(source, options), list(source.heads))


def _of_checkpoint(options: Options, words: Sequence[str]) -> Subject:
    """A checkpoint on rendered images, or on the data that `densekit eval` would take."""
    from densekit.app.config.overrides import parse
    from densekit.app.run.evaluation import evaluation_data
    from densekit.artifact import load_artifact
    from densekit.inference.predictor import load

    file = checkpoint_file(options["checkpoint"]).absolute()
    model, inferer = load(file, options["trust"])
    if options["size"]:
        return Subject(model, inferer, _rendered(model, options), list(model.heads))
    _, sources, _ = evaluation_data(load_artifact(file), file, parse(words), None)
    source = next(iter(sources.values()))
    return Subject(model, inferer, _first(source, options), list(source.heads))


def _first(source: Any, options: Options) -> Batch:
    """The first batch of a data set, for training or of its evaluation split."""
    source.num_workers = 0
    if options["step"] == "train":
        loader = source.train_loader()
    else:
        loader = source.eval_loader("test" if source.test is not None else "val")
    batch: Batch = moved(next(iter(loader)), options["device"])
    return batch


def _rendered(model: DenseModel, options: Options) -> Batch:
    """Scenes, or noise for channels and axes that scenes do not have."""
    size, channels = options["size"], model.mean.shape[1]
    if len(size) != model.spatial_dims:
        raise UsageError(
            f"size: expected {model.spatial_dims} sides, as the network has, got {size}"
        )
    count, device = options["batch"] or 1, options["device"]
    if (channels, model.spatial_dims) != (3, 2):
        return noise_for(model, count, size, device)
    batch: Batch = batch_of(Scenes("train", count, size=size), device)
    return batch
