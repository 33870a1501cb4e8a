"""The gate: an exported file is run beside its model, and refused if the two differ.

Both see the same inputs, padded to the shapes of the file. Where there is ground truth, the metrics
of both are measured too; where there are neither images nor truth, noise is all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from densekit._names import counted
from densekit.inference.engine import with_engine
from densekit.inference.export.base import Example, PredictionsByName, Program, as_program
from densekit.inference.export.differences import (
    LIMITS,
    Differences,
    Measured,
    of_metrics,
)
from densekit.inference.export.pictures import in_other_sizes
from densekit.inference.export.running import FileEngine, PictureFile
from densekit.inference.predictor import Inferer, Predictor
from densekit.inference.restore import restore
from densekit.model import UINT8_MAX, DenseModel
from densekit.ops.padding import corner
from densekit.ops.resize import resized_size
from densekit.types import Batch, Predictions, Result, Truth

Results = list[dict[str, Result]]


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
        sides: Of the frame that both see.
        pictures: Answers in the place of `file`, for a file that resizes inside.
    """

    model: DenseModel
    file: DenseModel
    precision: str
    sides: tuple[int, ...]
    pictures: PictureFile | None = None

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
        pictures = PictureFile(program) if example.resize else None
        paired = with_engine(model, own), with_engine(model, other)
        return cls(*paired, precision, example.sides, pictures)

    def results(self, inferer: Inferer, batch: Batch) -> tuple[Results, Results]:
        """Returns the results of the model and of the file for a batch, not yet resized."""
        resized = self.model.resized(batch)
        with torch.inference_mode():
            expected = inferer(self.model, resized)
            if self.pictures is None:
                return expected, inferer(self.file, resized)
        return expected, [self.pictures(picture) for picture in _pictures(batch)]


def on_noise(pair: Pair, example: Example) -> Parity:
    """Compares file and model on noise: one batch, or pictures of several sizes."""
    if pair.pictures is not None:
        return _on_noisy_pictures(pair, example)
    image, size = example.noise(pair.model)
    batch: Batch = {"image": image, "size": size}
    batch["meta"] = [{"original_size": example.sides} for _ in image]
    of_heads: dict[str, Differences] = {}
    with torch.inference_mode():
        expected, found = (_raw(m.predict(batch), batch) for m in (pair.model, pair.file))
    _add(of_heads, pair, expected, found, [1.0] * len(image))
    return _parity("noise", pair, of_heads)


def _on_noisy_pictures(pair: Pair, example: Example) -> Parity:
    image, _ = example.noise(pair.model)
    picture = (image[0] * (UINT8_MAX / pair.model.full_scale)).to(torch.uint8).movedim(0, -1)
    of_heads: dict[str, Differences] = {}
    sizes = _on_sizes(pair, picture.numpy(), of_heads)
    return _parity(f"noise of {', '.join(sizes)}", pair, of_heads)


def _on_sizes(
    pair: Pair, picture: NDArray[np.uint8], of_heads: dict[str, Differences]
) -> list[str]:
    """Compares file and model on a picture in other sizes, if the file resizes; returns these."""
    if pair.pictures is None:
        return []
    model, compared = Predictor(pair.model), []
    model.model = pair.model
    for one in in_other_sizes(picture, pair.model.info, pair.sides):
        sides = one.shape[:2]
        _add(of_heads, pair, model(one), [pair.pictures(one)], [_zoom(pair.model, sides)])
        compared.append(f"{sides[0]}x{sides[1]}")
    return compared


def _of(where: str, count: int, sizes: Sequence[str]) -> str:
    """What a file was compared on, in words."""
    more = f", the first also in {', '.join(sizes)}" if sizes else ""
    return f"{where}, {counted(count, 'image')}{more}"


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
    sizes: list[str] = []
    for path in files:
        image: Any = model.frames.read(path)
        zoom = _zoom(pair.model, image.shape[: model.frames.dims])
        found = file(image) if pair.pictures is None else [pair.pictures(image)]
        _add(of_heads, pair, model(image), found, [zoom])
        if path == files[0]:
            sizes = _on_sizes(pair, image, of_heads)
    return _parity(_of(where, len(files), sizes), pair, of_heads)


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
    count, sizes = 0, list[str]()
    for batch in batches:
        keep = [i for i, real in enumerate(batch["sample_valid"].tolist()) if real]
        truth = [batch["truth"][i] for i in keep]
        zooms = [_zoom(pair.model, batch["meta"][i]["original_size"]) for i in keep]
        expected, found = ([of[i] for i in keep] for of in pair.results(inferer, batch))
        for results, metric in ((expected, metrics[0]), (found, metrics[1])):
            metric.update(results, truth)
        _add(of_heads, pair, expected, found, zooms)
        if not count and keep:
            sizes = _on_sizes(pair, _pictures(batch)[keep[0]], of_heads)
        count += len(keep)
    main = {name: h.main_metric[0] for name, h in pair.model.heads.items() if h.main_metric}
    own, other = ({k: float(v) for k, v in one.compute().items()} for one in metrics)
    more = of_metrics(own, other, main, LIMITS[pair.precision], count)
    return _parity(_of(where, count, sizes), pair, of_heads, more)


def _pictures(batch: Batch) -> list[NDArray[Any]]:
    """The images of a batch without padding, (H, W, C)."""
    images = zip(batch["image"], batch["size"].tolist(), strict=True)
    return [image[corner(size)].movedim(0, -1).numpy() for image, size in images]


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
