"""`Predictor`: takes images or volumes and returns results in each one's original frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import yaml
from torch import Tensor

from densekit.inference import inferer as inferers
from densekit.inference.calibration import Calibration, seen_later
from densekit.inference.engine import build_engine, check_engine, with_engine
from densekit.inference.frames import Frames
from densekit.inference.inputs import each
from densekit.inference.slices import Slices, sliced
from densekit.inference.thresholds import (
    Choice,
    check_choice,
    chosen_thresholds,
    confident,
)
from densekit.inference.whole_image import WholeImage
from densekit.model import DenseModel
from densekit.ops.padding import largest_sides, stack_padded
from densekit.ops.run_lengths import decode
from densekit.types import Batch, Meta, Result, without_pixels

if TYPE_CHECKING:
    from densekit.inference.inputs import Image

Inferer = Callable[[DenseModel, Batch], list[dict[str, Result]]]


class Predictor:
    """Predicts images or volumes of any sizes; the model itself states how to prepare them.

    Args:
        model_or_checkpoint: A model, or the path of a checkpoint.
        device: Where the network runs.
        precision: The type in which the network computes: "fp32", "bf16", "fp16" or "int8", as far
            as the engine has it.
        engine: What computes the predictions, see `densekit.inference.engines`.
        trust: Packages whose classes a checkpoint's configuration may build, besides densekit's
            and installed plug-ins'.
        batch_size: Images per forward pass.
        inferer: How a batch is predicted; by default the inferer the checkpoint was validated
            with, or `WholeImage` for a model.
        threshold: From which score boxes, pixels of binary and multi-label masks, and labels of
            multi-label images count: a number, or "best" for those that the last validation has
            measured, 0.5 where it has none. None takes what the heads' configuration says, else the
            best. Boxes are all returned; `confident` keeps those that count.
        calibration: Images that the scales of precision="int8" are measured on, such as
            `calibrate_on(paths)`. They are read when a program is built, not when one is taken from
            the cache.
        mask_planes: Whether masks of objects are planes (N, H, W) bool. By default they are run
            lengths, which take about as many kilobytes as planes take megabytes.

    Attributes:
        thresholds: Head name to its threshold, of heads with scores to decide by.

    Raises:
        ValueError: The checkpoint is refused, or there is no such engine, or it lacks the precision
            or the device.
        ImportError: The runtime of the engine is not installed.
    """

    def __init__(
        self,
        model_or_checkpoint: DenseModel | str | Path,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        engine: str = "eager",
        trust: Sequence[str] = (),
        batch_size: int = 1,
        inferer: Inferer | None = None,
        threshold: Choice | None = None,
        calibration: Calibration | None = None,
        mask_planes: bool = False,
    ) -> None:
        check_engine(engine, precision, device)
        stored: Inferer = WholeImage()
        checkpoint = None
        if isinstance(model_or_checkpoint, str | Path):
            checkpoint = model_or_checkpoint
            model_or_checkpoint, stored = load(model_or_checkpoint, trust)
        plain = model_or_checkpoint.to(device).eval()
        self.device = torch.device(device)
        self.batch_size = batch_size
        self.mask_planes = mask_planes
        self.frames = Frames(plain)
        self.inferer: Any = stored if inferer is None else inferer
        if isinstance(self.inferer, inferers.Inferer):
            self.inferer.check(plain)
        self.read = self.frames.read
        if self.frames.slices and not isinstance(self.inferer, Slices):
            self.inferer = sliced(cast(Any, self.inferer), plain.info)
        seen = seen_later(plain, self.inferer, calibration)
        self.engine = build_engine(engine, plain, precision, device, checkpoint, seen)
        self.thresholds = chosen_thresholds(plain, check_choice(threshold))
        self.model = with_engine(plain, self.engine)
        self.model.decided = {name: one.values for name, one in self.thresholds.items()}

    @property
    def names(self) -> dict[str, list[str]]:
        """Class names per head or combination; an empty list where the model has none."""
        described = self.model.described
        return {name: list(one.get("names", ())) for name, one in described.items()}

    def confident(self, results: Sequence[dict[str, Result]]) -> list[dict[str, Result]]:
        """Keeps the boxes that score at least the threshold of their head and class.

        Args:
            results: What a call returned.
        """
        least = self.thresholds
        return [
            {name: confident(r, least[name]) if name in least else r for name, r in one.items()}
            for one in results
        ]

    def __call__(self, images: Image | Iterable[Image]) -> list[dict[str, Result]]:
        """Predicts one image or many.

        Args:
            images: Paths, PIL images, (H, W, C) or (H, W) arrays, (C, H, W) or (H, W) tensors; one,
                several, or a batch with an additional first axis. Values are uint8, or floats in
                the unit of the stored images (0..255 for most models, see
                `model.info["full_scale"]`), or of any depth for models trained on such images.
                Grey, RGB and RGBA are converted to the model's channels, as files are. For a model
                of volumes: NIfTI files, DICOM folders, the result of
                `densekit.data.medical.volumes.read_volume`, (D, H, W, C) arrays or (C, D, H, W)
                tensors; the last two in the model's own orientation and spacing.

        Returns:
            One dict per image, head name to result; a list even for a single image. Detection has
            `boxes` (N, 4) float32 xyxy in pixels of that image, `scores` (N,), `labels` (N,) and,
            if the model knows its classes, `names`, a list of N; with masks of objects
            `masks`, a list of N `RunLengths` (pycocotools' compressed form), or (N, H, W) bool with
            `mask_planes`. Segmentation has `mask`, uint8 of
            the image's size with classes, or multi-label (K, ...) with 0 and 1, and `names`, the K
            class names. Classification has `probabilities` (K,), `labels` (n,), `scores` (n,) and
            `names`, a list of n: the most probable class, or all labels from their threshold on. An
            embedding is `embedding` (E,) float32 of length 1.

        Raises:
            ValueError: An image cannot be read, has the wrong channels or no pixels, or values that
                are not finite or in another unit; the message names its file or its index.
            TypeError: An input is not an image, or the model was not trained with its type.
        """
        return list(self.stream(images))

    def stream(self, images: Image | Iterable[Image]) -> Iterator[dict[str, Result]]:
        """Predicts like a call, but yields one image at a time and holds one batch in memory."""
        remaining = enumerate(each(images, self.frames.dims))
        while part := list(islice(remaining, self.batch_size)):
            prepared = [self.frames.prepared(image, f"images[{index}]") for index, image in part]
            yield from self._predict(prepared)

    def batch(self, images: list[tuple[Tensor, Meta]]) -> Batch:
        """Returns what the inferer takes: images in the network's frame, in one batch.

        Args:
            images: Of `frames.prepared`, of one dtype.
        """
        batch = _stack(images, self.device)
        return batch if self.frames.slices else self.model.resized(batch)

    def head(self, name: str) -> HeadPredictor:
        """Returns a predictor of one head or combination, whose results are flat."""
        known = [*self.model.heads, *self.model.combined]
        if name not in known:
            raise ValueError(f"head: expected one of {known}, got {name!r}")
        return HeadPredictor(self, name)

    @torch.inference_mode()
    def _predict(self, images: list[tuple[Tensor, Meta]]) -> list[dict[str, Result]]:
        if len({image.dtype for image, _ in images}) > 1:
            return [result for image in images for result in self._predict([image])]
        results = without_pixels(self.inferer(self.model, self.batch(images)))
        for result, (_, meta) in zip(results, images, strict=True):
            for name, part in result.items():
                if self.mask_planes and "boxes" in part and "masks" in part:
                    height, width = meta["original_size"]
                    part["masks"] = decode(part["masks"], (height, width)).astype(bool)
                names = self.names.get(name)
                if names and "labels" in part:
                    part["names"] = [names[label] for label in part["labels"]]
                elif names and "mask" in part:
                    part["names"] = names
        return results


class HeadPredictor:
    """Predicts with one head of a `Predictor`.

    Args:
        predictor: Of the whole model.
        name: The head.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        self.predictor = predictor
        self.name = name

    @property
    def names(self) -> list[str]:
        """Class names of the head."""
        return self.predictor.names[self.name]

    def __call__(self, images: Image | Iterable[Image]) -> list[Result]:
        """Returns one flat dict per image; see `Predictor`."""
        return [result[self.name] for result in self.predictor(images)]


def load(path: str | Path, trust: Sequence[str] = ()) -> tuple[DenseModel, Inferer]:
    """Loads the model of a checkpoint, and the inferer it was validated with.

    Raises:
        ValueError: The file is refused, or names a class that is not trusted.
    """
    from densekit.artifact import build_from_artifact, load_artifact

    artifact = load_artifact(path)
    return build_from_artifact(artifact, path, trust), stored_inferer(artifact, path, trust)


def stored_inferer(
    artifact: Mapping[str, Any], path: str | Path, trust: Sequence[str] = ()
) -> Inferer:
    """Builds the inferer that a checkpoint was validated with, `WholeImage` if it names none.

    Args:
        artifact: What `load_artifact` returns.
        path: Its file, for messages.
        trust: Packages besides densekit and installed plug-ins whose classes may be built.

    Raises:
        ValueError: It names a class that is not trusted.
    """
    from densekit.build import instantiate
    from densekit.trust import check_stored

    node = yaml.safe_load(artifact["config"]).get("inferer")
    if node is None:
        return WholeImage()
    try:
        if not isinstance(node, dict) or "_target_" not in node:
            raise ValueError(
                f"inferer: expected a class and its arguments, got {str(node)[:100]!r}"
            )
        check_stored({"inferer": node}, trust)
        inferer: Inferer = instantiate(node, "inferer")
        return inferer
    except (ValueError, TypeError) as error:
        raise ValueError(f"checkpoint {path}: {error}") from error


def _stack(images: list[tuple[Tensor, Meta]], device: torch.device) -> Batch:
    """A batch of images (C, *S), padded with zeros at the end of each axis."""
    sizes = [tuple(image.shape[1:]) for image, _ in images]
    stacked = stack_padded([image for image, _ in images], largest_sides(sizes))
    return {
        "image": stacked.to(device),
        "size": torch.tensor(sizes, device=device),
        "meta": [meta for _, meta in images],
    }
