"""Contract tests of a transform of samples."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densekit.data.collate import collate
from densekit.data.protocols import Transform, as_dataset
from densekit.data.transforms.partners import apply_steps
from densekit.testing.compare import difference
from densekit.testing.contract import Check, prove
from densekit.testing.data import DataSubject
from densekit.testing.sample_rules import RULES, Vocabulary
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.testing.seeds import global_seed
from densekit.types import Sample, check_batch

CLASSES = 3
DRAWS = 5
"""Times that each sample is transformed, since every random draw must be valid."""


@dataclass(frozen=True)
class TransformSubject:
    """A transform under test.

    Attributes:
        transform: The transform.
        samples: Its inputs.
        vocabulary: Declarations that inputs and outputs follow.
    """

    transform: Transform
    samples: Sequence[Sample]
    vocabulary: Vocabulary

    def changed(self, transform: Transform, number: int, draw: int = 0) -> Sample:
        """Transforms a copy of a sample with the generator of one draw."""
        samples = copy.deepcopy(list(self.samples))
        return apply_steps(
            transform, samples[number], np.random.default_rng((draw, number)), samples
        )

    def all_changed(self) -> list[Sample]:
        """Every sample transformed in every draw."""
        numbers = range(len(self.samples))
        return [self.changed(self.transform, n, draw) for draw in range(DRAWS) for n in numbers]


def check_transform(transform: Transform, dataset: Any = None) -> None:
    """Runs every contract test on a transform.

    Args:
        transform: See `densekit.data.protocols.Transform`.
        dataset: Its samples are transformed; synthetic ones by default.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
    """
    prove(transform_subject(transform, dataset), CHECKS)


def transform_subject(transform: Transform, dataset: Any) -> TransformSubject:
    """Combines a transform with its test samples, see `check_transform`."""
    if dataset is not None:
        data = DataSubject(as_dataset(dataset))
        return TransformSubject(transform, data.samples, data.vocabulary)
    described = synthetic_info(CLASSES) | {"channels": 3, "num_identities": CLASSES}
    return TransformSubject(transform, synthetic_samples(CLASSES), Vocabulary(described, {}))


def _leaves_sample(subject: TransformSubject) -> None:
    for number in range(len(subject.samples)):
        for draw in range(DRAWS):
            given = copy.deepcopy(list(subject.samples))
            rng = np.random.default_rng((draw, number))
            apply_steps(subject.transform, given[number], rng, given)
            key = difference(list(subject.samples), given)
            assert not key, f"{key.partition('.')[2]} of the input sample was changed"


def _by_generator(subject: TransformSubject) -> None:
    for number in range(len(subject.samples)):
        with global_seed(1):
            first = [subject.changed(subject.transform, number, draw) for draw in (0, 1)]
        with global_seed(2):
            second = [subject.changed(subject.transform, number, draw) for draw in (0, 1)]
        key = difference(first, second)
        assert not key, f"{key.partition('.')[2]} differs for the same generator"


def _keeps_rules(subject: TransformSubject) -> None:
    for sample in subject.all_changed():
        for rule in RULES:
            rule(sample, subject.vocabulary)


def _keeps_entries(subject: TransformSubject) -> None:
    for number, given in enumerate(subject.samples):
        found = subject.changed(subject.transform, number)
        odd = sorted(set(given) ^ set(found))
        assert not odd, f"{odd} were added or removed"
        for name in ("meta", "truth"):
            key = difference(given.get(name), found.get(name))
            assert not key, f"{name}: {key} was changed"


def _copies(subject: TransformSubject) -> None:
    copied = pickle.loads(pickle.dumps(subject.transform))
    for number in range(len(subject.samples)):
        key = difference(
            subject.changed(subject.transform, number), subject.changed(copied, number)
        )
        assert not key, f"{key} differs in a pickled copy"


def _batches(subject: TransformSubject) -> None:
    samples = [subject.changed(subject.transform, n) for n in range(len(subject.samples))]
    check_batch(collate(samples, training=True, target_specs=subject.vocabulary.target_specs))


CHECKS = (
    Check(
        "leaves the sample alone",
        "the input sample and its arrays are not changed, as data sets may keep them",
        _leaves_sample,
    ),
    Check(
        "by generator",
        "all randomness comes from the given generator, so that runs resume and workers differ",
        _by_generator,
    ),
    Check("keeps rules", "its output follows the rules of samples, in every draw", _keeps_rules),
    Check(
        "keeps entries",
        "it returns the same targets; meta and truth, which describe the original, do not change",
        _keeps_entries,
    ),
    Check("copies", "a pickled copy returns the same: workers get one", _copies),
    Check("batches", "collate makes a batch of its output", _batches),
)
"""Requirements of every transform of samples."""
