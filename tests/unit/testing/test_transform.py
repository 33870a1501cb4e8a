"""Every check of a transform lets a good one pass and catches the defect it is there for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from densekit.data import Augment, Resize
from densekit.testing import check_transform, report
from densekit.testing.sample_rules import Vocabulary
from densekit.testing.samples import synthetic_samples
from densekit.testing.transform import CHECKS, TransformSubject, transform_subject
from densekit.types import Sample, TargetSpec


class Brighter:
    """Adds a random number to an image."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return {**sample, "image": sample["image"] // 2 + np.uint8(rng.integers(100))}


class InPlace(Brighter):
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        sample["image"][:] //= 2
        return super().__call__(sample, rng)


class Global(Brighter):
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        drawn = np.random.get_state()[1][0] % 7  # type: ignore[index]
        return {**sample, "image": sample["image"] + np.uint8(drawn)}


class OtherDtype(Brighter):
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return {**sample, "image": sample["image"] / np.float32(255)}


class OtherId(Brighter):
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        changed = super().__call__(sample, rng)
        return {**changed, "meta": {**sample["meta"], "image_id": 5}}


class Forgets(Brighter):
    def __init__(self) -> None:
        self.amount = 1

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return {**sample, "image": sample["image"] + np.uint8(self.amount)}

    def __getstate__(self) -> dict[str, Any]:
        return {"amount": 2}


class CropsAllButExtra(Brighter):
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return {**sample, "image": sample["image"][:8]}


DEFECTS = (
    ("leaves the sample alone", InPlace),
    ("by generator", Global),
    ("keeps rules", OtherDtype),
    ("keeps entries", OtherId),
    ("copies", Forgets),
)


def failed(subject: TransformSubject) -> list[str]:
    return [outcome.name for outcome in report(subject, CHECKS) if outcome.error]


@pytest.mark.parametrize(
    "transform",
    [
        Brighter(),
        Augment({"HorizontalFlip": {"p": 0.5}, "RandomBrightnessContrast": {"p": 0.5}}),
        Resize([40, 48], 96),
    ],
)
def test_good_transform_passes(transform: Any) -> None:
    check_transform(transform)


@pytest.mark.parametrize(("name", "made"), DEFECTS)
def test_a_defect_is_found_by_its_check_alone(name: str, made: type[Brighter]) -> None:
    assert failed(transform_subject(made(), None)) == [name]


def test_targets_of_a_plugin_that_do_not_follow_are_found_by_the_batch_alone() -> None:
    samples: list[Any] = synthetic_samples(3)
    only = ("image", "index", "meta", "truth")
    samples = [
        {**{key: sample[key] for key in only}, "extra": {"depth": np.zeros((64, 64), np.float32)}}
        for sample in samples
    ]
    vocabulary = Vocabulary({"channels": 3}, {"depth": TargetSpec(0, ragged=False)})
    assert failed(TransformSubject(CropsAllButExtra(), samples, vocabulary)) == ["batches"]


def test_every_check_can_fail() -> None:
    assert {*dict(DEFECTS), "batches"} == {check.name for check in CHECKS}
