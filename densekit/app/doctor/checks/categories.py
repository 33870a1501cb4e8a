"""Categories of images and identities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from densekit.app.doctor.checks.duplicates import same_pixels
from densekit.app.doctor.checks.outliers import outliers
from densekit.app.doctor.facts import Part, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_example, of_part

MANY = 8.0
"""Robust standard deviations from which the number of images of an identity is unusual."""


def _identities(study: Study) -> list[Part]:
    return [part for part in study.parts.values() if part.kind == "identity"]


@check(Severity.ERROR)
def contradicting_labels(study: Study) -> Iterator[Hit]:
    """Equal images with different labels."""
    for (_, first), (part, other) in same_pixels(study):
        if first.labels and other.labels and first.labels != other.labels:
            labels = f"{'+'.join(other.labels)}, and {'+'.join(first.labels)} as {first.file}"
            yield of_example(part, other, labels)


@check(Severity.WARNING)
def empty_class(study: Study) -> Iterator[Hit]:
    """A class without an image in a split."""
    for part in study.parts.values():
        if part.kind == "category" and part.examples:
            found = {label for example in part.examples for label in example.labels}
            for name in part.classes:
                if name not in found:
                    yield of_part(part, f"{name}: no image")


@check(Severity.WARNING)
def one_label_only(study: Study) -> Iterator[Hit]:
    """A split in which every image has the same label."""
    for part in study.parts.values():
        labels = {example.labels for example in part.examples}
        if part.kind == "category" and len(labels) == 1 and len(part.examples) > 1:
            yield of_part(part, f"{len(part.examples)} images of {'+'.join(*labels) or 'no label'}")


@check(Severity.NOTE)
def no_label(study: Study) -> Iterator[Hit]:
    """An image without any label."""
    for part, example in study.each():
        if part.kind == "category" and not example.labels:
            yield of_example(part, example, "no label")


@check(Severity.ERROR)
def identity_in_two_splits(study: Study) -> Iterator[Hit]:
    """An identity of training that is evaluated as unknown."""
    closed, opened = ([p for p in _identities(study) if p.closed is way] for way in (True, False))
    trained = {label for part in closed for e in part.examples for label in e.labels}
    for part in opened:
        found = Counter(label for example in part.examples for label in example.labels)
        for label in sorted(found.keys() & trained):
            yield of_part(part, f"{label}: {found[label]} images here, others in train")


@check(Severity.NOTE)
def single_image_identity(study: Study) -> Iterator[Hit]:
    """An identity with a single image: nothing can be learned from it."""
    for part in _identities(study):
        counts = Counter(label for example in part.examples for label in example.labels)
        for label, count in counts.items():
            if count == 1:
                yield of_part(part, f"{label}: 1 image")


@check(Severity.NOTE)
def uneven_identity(study: Study) -> Iterator[Hit]:
    """An identity with far more or fewer images than the others."""
    for part in _identities(study):
        counts = Counter(label for example in part.examples for label in example.labels)
        names = list(counts)
        for place in outliers([float(counts[name]) for name in names], MANY):
            yield of_part(part, f"{names[place]}: {counts[names[place]]} images")


@check(Severity.ERROR)
def patient_in_two_splits(study: Study) -> Iterator[Hit]:
    """A patient with images in two splits."""
    owners: dict[str, tuple[str, Path]] = {}
    for part, example in study.each():
        if not example.group:
            continue
        owner, file = owners.setdefault(example.group, (part.name, example.file))
        if owner != part.name:
            yield of_example(part, example, f"{example.group}: {file} is in {owner}")


CHECKS = (
    contradicting_labels,
    empty_class,
    one_label_only,
    no_label,
    identity_in_two_splits,
    single_image_identity,
    uneven_identity,
    patient_in_two_splits,
)
