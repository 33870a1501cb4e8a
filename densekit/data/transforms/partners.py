"""Transforms that mix a sample with others of its data set, and how they get these others.

`mosaic` and `copy_paste` hold them; `mixing` mixes the categories of a batch instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densekit.data.protocols import Dataset, Transform
from densekit.data.transforms.geometry import Chain, is_spatial
from densekit.types import Sample


@dataclass(frozen=True)
class Partners:
    """The samples that one may be mixed with.

    Attributes:
        dataset: Where they come from; all are equally likely.
        steps: What is applied to each.
    """

    dataset: Dataset | Sequence[Sample]
    steps: tuple[Transform, ...] = ()

    def draw(self, rng: np.random.Generator) -> Sample:
        """A random sample, after the steps."""
        sample = self.dataset[int(rng.integers(len(self.dataset)))]
        for step in self.steps:
            sample = step(sample, rng)
        return sample


class Mixing(ABC):
    """A transform that mixes a sample with others: `Mosaic`, `BoxMixUp`, `CopyPaste`.

    It is a step of `train_transform`. The others have passed the steps before it that do not mix
    themselves: a flip before copy-paste flips both images independently. As every random choice
    comes from the generator of the sample, so does the choice of the others.
    """

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample itself: without a loader there are no others."""
        return sample

    @abstractmethod
    def mix(self, sample: Sample, rng: np.random.Generator, partners: Partners) -> Sample:
        """The mixed sample; the given one and its arrays are not modified."""


def apply_steps(
    transform: Transform | None,
    sample: Sample,
    rng: np.random.Generator,
    others: Dataset | Sequence[Sample] | None,
) -> Sample:
    """Applies a transform whose steps may mix the sample with others.

    Args:
        transform: A transform or a `Chain` of them; None changes nothing.
        sample: The sample.
        rng: Its generator.
        others: What it may be mixed with; None leaves out the steps that mix.
    """
    before: list[Transform] = []
    for step in _steps(transform):
        if not isinstance(step, Mixing):
            sample = step(sample, rng)
            before.append(step)
        elif others is not None:
            sample = step.mix(sample, rng, Partners(others, tuple(before)))
    return sample


def check_mixable(sample: Sample, key: str, unknown: Sequence[str]) -> None:
    """Raises unless the targets of an image can be mixed.

    Args:
        sample: Any sample.
        key: The transform, for the message.
        unknown: Targets that it cannot mix.

    Raises:
        ValueError: For targets of the whole image, volumes, maps of plug-ins, or those in
            `unknown`.
    """
    path, size = sample["meta"]["path"], sample["image"].shape[:-1]
    if len(size) != 2:
        raise ValueError(f"{key}: expected images of height and width, got {size} in {path}")
    found = sorted({"category", "identity", *unknown} & set(sample))
    maps = sample.get("extra", {}).items()
    found += [f"extra/{name}" for name, target in maps if is_spatial(target, size)]
    if found or not {"boxes", "mask"} & set(sample):
        raise ValueError(
            f"{key}: expected targets that can be mixed, such as boxes, got"
            f" {', '.join(found) or 'neither boxes nor a mask'} in {path}"
        )


def check_range(values: Sequence[float], key: str) -> tuple[float, float]:
    """A smallest and a largest factor.

    Raises:
        ValueError: If they are not.
    """
    if isinstance(values, (int, float)) or len(values) != 2 or not 0 < values[0] <= values[1]:
        raise ValueError(f"{key}: expected a smallest and a largest factor, got {values!r}")
    return float(values[0]), float(values[1])


def check_share(value: float, key: str) -> float:
    """A number from 0 to 1.

    Raises:
        ValueError: If it is not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{key}: expected 0 to 1, got {value}")
    return float(value)


def _steps(transform: Transform | None) -> list[Transform]:
    """The steps of nested chains in order."""
    if isinstance(transform, Chain):
        return [inner for step in transform.steps.values() for inner in _steps(step)]
    return [] if transform is None else [transform]
