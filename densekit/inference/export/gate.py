"""The gate: an exported file is run beside its model, and refused if the two differ.

Both see the same inputs, padded to the shapes of the file. Where there is ground truth, the metrics
of both are measured too; where there are neither images nor truth, noise is all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from densekit._names import counted
from densekit.inference.engine import with_engine
from densekit.inference.export.base import Example, PredictionsByName, Program, as_program
from densekit.inference.export.differences import (
    LIMITS,
    Differences,
    Measured,
    of_metrics,
)
from densekit.inference.export.running import FileEngine
from densekit.inference.predictor import Inferer, Predictor
from densekit.inference.restore import restore
from densekit.model import DenseModel
from densekit.ops.resize import resized_size
from densekit.types import Batch, Predictions, Result, Truth


class Metrics(Protocol):
    """The metrics of one data set, such as `densekit.training.metric_set.MetricSet`."""

    def update(self, results: Sequence[Mapping[str, Result]], truth: list[Truth]) -> None:
        """Adds images."""

    def compute(self) -> Mapping[str, Any]:
        """Returns the values by `HEAD/METRIC`."""


@dataclass(frozen=True)
class Parity:
    """How far a file is from its model.

    Attributes:
        on: What they were compared on, in words.
        precision: Of the file; its limits applied.
        measured: The differences.
    """

    on: str
    precision: str
    measured: tuple[Measured, ...]

    @property
    def beyond(self) -> list[Measured]:
        """The differences beyond their limit."""
        return [one for one in self.measured if not one.is_within]

    @property
    def unproven(self) -> list[str]:
        """Heads for which nothing was compared: neither had a box, and no metric is above 0."""
        heads = dict.fromkeys(one.head for one in self.measured)
        proven = {one.head for one in self.measured if one.compared}
        return [head for head in heads if head not in proven]

    def lines(self) -> list[str]:
        """Returns the differences in words."""
        rows = [f"compared on {self.on}, {self.precision}:"]
        rows += [f"  {one}" for one in self.measured]
        if self.unproven:
            heads = ", ".join(self.unproven)
            rows.append(f"  nothing to compare for {heads}: this is no proof that they are equal")
        return rows

    def facts(self) -> dict[str, Any]:
        """Returns plain values, to be stored in the file."""
        return {**asdict(self), "lines": self.lines()}


@dataclass(frozen=True)
class Pair:
    """A model and its exported file, which see the same inputs.

    Attributes:
        model: The model, padded to the shapes of the file.
        file: The model whose predictions are the file's.
        precision: Of the file.
    """

    model: DenseModel
    file: DenseModel
    precision: str

    @classmethod
    def of(
        cls, model: DenseModel, program: Program, example: Example, name: str, precision: str
    ) -> Pair:
        """Pairs a model, on the CPU and in evaluation mode, with an opened file.

        Args:
            model: The model that was exported.
            program: The opened file.
            example: The shapes it was exported for.
            name: Of its format.
            precision: That it was exported in.
        """
        own = FileEngine(model, as_program(PredictionsByName(model)), example, "eager", "fp32")
        other = FileEngine(model, program, example, name, precision)
        return cls(with_engine(model, own), with_engine(model, other), precision)


def on_noise(pair: Pair, example: Example) -> Parity:
    """Compares file and model on one batch of noise."""
    image, size = example.noise(pair.model)
    batch: Batch = {"image": image, "size": size}
    batch["meta"] = [{"original_size": example.sides} for _ in image]
    of_heads: dict[str, Differences] = {}
    with torch.inference_mode():
        expected, found = (_raw(m.predict(batch), batch) for m in (pair.model, pair.file))
    _add(of_heads, pair, expected, found, [1.0] * len(image))
    return _parity("noise", pair, of_heads)


def on_other_noise(pair: Pair, example: Example) -> Parity:
    """Compares file and model on noise of larger sides, for a file whose sides are dynamic.

    Raises:
        ValueError: The file cannot be run with them.
    """
    sides = tuple(side + side // (2 + axis) + 1 for axis, side in enumerate(example.sides))
    size = "x".join(map(str, sides))
    try:
        found = on_noise(pair, replace(example, sides=sides))
    except Exception as error:  # each runtime has its own
        raise ValueError(
            f"dynamic: expected a program for images of any size, got one that fails with {size}"
            f" ({str(error).strip().partition(chr(10))[0]}); leave size out, or export other heads"
        ) from error
    return replace(found, on=f"noise of {size}")


def _raw(predictions: Mapping[str, Predictions], batch: Batch) -> list[dict[str, Result]]:
    """Boxes as results; of other heads the logits, as noise has no classes that could change."""
    boxes = restore({k: v for k, v in predictions.items() if "boxes" in v}, batch)
    others = {head: of_head for head, of_head in predictions.items() if "boxes" not in of_head}
    return [
        {**found, **{h: {k: v[row].numpy() for k, v in one.items()} for h, one in others.items()}}
        for row, found in enumerate(boxes)
    ]


def on_images(pair: Pair, inferer: Inferer, files: Sequence[Path], where: str) -> Parity:
    """Compares file and model on images without ground truth.

    Args:
        pair: Model and file.
        inferer: How an image is predicted.
        files: The images.
        where: Their folder, in words.

    Raises:
        ValueError: An image cannot be read, or does not fit into the file.
    """
    model, file = (Predictor(pair.model, inferer=inferer) for _ in range(2))
    model.model, file.model = pair.model, pair.file
    of_heads: dict[str, Differences] = {}
    for path in files:
        image = model.frames.read(path)
        zoom = _zoom(pair.model, image.shape[: model.frames.dims])
        _add(of_heads, pair, model(image), file(image), [zoom])
    return _parity(f"{where}, {counted(len(files), 'image')}", pair, of_heads)


def on_data(
    pair: Pair,
    inferer: Inferer,
    batches: Iterable[Batch],
    metrics: tuple[Metrics, Metrics],
    where: str,
) -> Parity:
    """Compares file and model on images with ground truth, and measures both.

    Args:
        pair: Model and file.
        inferer: How a batch is predicted.
        batches: Of an evaluation loader.
        metrics: Fresh metrics for the model, and the same for the file.
        where: The data set, in words.

    Raises:
        ValueError: An image does not fit into the file.
    """
    of_heads: dict[str, Differences] = {}
    count = 0
    for batch in batches:
        keep = [i for i, real in enumerate(batch["sample_valid"].tolist()) if real]
        truth = [batch["truth"][i] for i in keep]
        zooms = [_zoom(pair.model, batch["meta"][i]["original_size"]) for i in keep]
        resized = pair.model.resized(batch)
        with torch.inference_mode():
            expected, found = (inferer(m, resized) for m in (pair.model, pair.file))
        expected, found = [expected[i] for i in keep], [found[i] for i in keep]
        for results, metric in ((expected, metrics[0]), (found, metrics[1])):
            metric.update(results, truth)
        _add(of_heads, pair, expected, found, zooms)
        count += len(keep)
    main = {name: h.main_metric[0] for name, h in pair.model.heads.items() if h.main_metric}
    own, other = ({k: float(v) for k, v in one.compute().items()} for one in metrics)
    more = of_metrics(own, other, main, LIMITS[pair.precision], count)
    return _parity(f"{where}, {counted(count, 'image')}", pair, of_heads, more)


def joined(parities: Sequence[Parity]) -> Parity:
    """Joins what several data sets showed of one file."""
    on = "; ".join(one.on for one in parities)
    rows = tuple(row for one in parities for row in one.measured)
    return Parity(on, parities[0].precision, rows)


def _add(
    of_heads: dict[str, Differences],
    pair: Pair,
    expected: Sequence[Mapping[str, Result]],
    found: Sequence[Mapping[str, Result]],
    zooms: Sequence[float],
) -> None:
    for one, other, zoom in zip(expected, found, zooms, strict=True):
        for head, result in one.items():
            kept = of_heads.setdefault(head, Differences(LIMITS[pair.precision]))
            kept.update(result, other[head], zoom)


def _parity(
    on: str, pair: Pair, of_heads: Mapping[str, Differences], metrics: Iterable[Measured] = ()
) -> Parity:
    rows = [row for head, kept in of_heads.items() for row in kept.measured(head)]
    return Parity(on, pair.precision, (*metrics, *rows))


def _zoom(model: DenseModel, sides: Sequence[int]) -> float:
    """Pixels of the network's input per pixel of an image of these sides."""
    rule = model.info.get("resize")
    if rule is None:
        return 1.0
    return resized_size(sides[0], sides[1], rule)[0] / sides[0]
