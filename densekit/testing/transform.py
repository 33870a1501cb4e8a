"""The contract of a transform of samples."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densekit.data.collate import collate
from densekit.data.protocols import Transform, as_dataset
from densekit.testing.compare import difference
from densekit.testing.contract import Check, prove
from densekit.testing.data import DataSubject
from densekit.testing.sample_rules import RULES, Vocabulary
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.testing.seeds import global_seed
from densekit.types import Sample, check_batch

CLASSES = 3
DRAWS = 5
"""Times that each sample is transformed: what is random must be right every time."""


@dataclass(frozen=True)
class TransformSubject:
    """A transform under test.

    Attributes:
        transform: The transform.
        samples: What it is given.
        vocabulary: What the samples, and those that it makes of them, follow.
    """

    transform: Transform
    samples: Sequence[Sample]
    vocabulary: Vocabulary

    def changed(self, transform: Transform, number: int, draw: int = 0) -> Sample:
        """What a transform makes of a sample of its own, with the numbers of one draw."""
        sample = copy.deepcopy(self.samples[number])
        return transform(sample, np.random.default_rng((draw, number)))

    def all_changed(self) -> list[Sample]:
        """Every sample in every draw."""
        numbers = range(len(self.samples))
        return [self.changed(self.transform, n, draw) for draw in range(DRAWS) for n in numbers]


def check_transform(transform: Transform, dataset: Any = None) -> None:
    """Puts a transform to every check of the contract.

    Args:
        transform: See `densekit.data.protocols.Transform`.
        dataset: Some of its samples are transformed; of made-up pictures by default.

    Raises:
        AssertionError: Naming each check that failed, what it asks and what was found.
    """
    prove(transform_subject(transform, dataset), CHECKS)


def transform_subject(transform: Transform, dataset: Any) -> TransformSubject:
    """A transform with what it is tried on, see `check_transform`."""
    if dataset is not None:
        data = DataSubject(as_dataset(dataset))
        return TransformSubject(transform, data.samples, data.vocabulary)
    described = synthetic_info(CLASSES) | {"channels": 3, "num_identities": CLASSES}
    return TransformSubject(transform, synthetic_samples(CLASSES), Vocabulary(described, {}))


def _leaves_sample(subject: TransformSubject) -> None:
    for number, sample in enumerate(subject.samples):
        for draw in range(DRAWS):
            given = copy.deepcopy(sample)
            subject.transform(given, np.random.default_rng((draw, number)))
            key = difference(sample, given)
            assert not key, f"{key} of the given sample was changed"


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
        assert not odd, f"{odd} came or went"
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
        "the given sample and its arrays stay as they are: data sets may keep them",
        _leaves_sample,
    ),
    Check(
        "by generator",
        "it is random through the given generator alone: resuming repeats it, workers differ",
        _by_generator,
    ),
    Check("keeps rules", "what it makes follows the rules of samples, in every draw", _keeps_rules),
    Check(
        "keeps entries",
        "the same targets come out; meta and truth, which are of the original, stay",
        _keeps_entries,
    ),
    Check("copies", "a pickled copy does the same: workers get one", _copies),
    Check("batches", "collate makes a batch of what it makes", _batches),
)
"""What the contract asks of a transform of samples."""
