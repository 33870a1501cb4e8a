"""Images that are there twice, in one split or in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from densekit.app.doctor.facts import Example, Part, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_example

BITS = 64
FAR = 6
"""Differing bits of two perceptual hashes from which images do not look alike."""
ALIKE = 0.995
"""Correlation of two thumbnails from which their images are the same picture."""
MOST_ALIKE = 200
"""Images of one hash band above which it is left out: a band that says nothing."""


class Pair(NamedTuple):
    """Two images of equal content, each with its split."""

    first: tuple[Part, Example]
    other: tuple[Part, Example]

    @property
    def within(self) -> bool:
        """Whether both are in one split."""
        return self.first[0].name == self.other[0].name


def same_pixels(study: Study) -> list[Pair]:
    """Pairs of different files with equal pixels: each file and the first one that equals it."""
    groups: dict[str, list[tuple[Part, Example]]] = {}
    for part, example in study.each():
        if content := _content(example):
            groups.setdefault(content, []).append((part, example))
    return [
        Pair(group[0], other)
        for group in groups.values()
        for other in group[1:]
        if other[1].file.absolute() != group[0][1].file.absolute()
    ]


def look_alikes(study: Study) -> list[Pair]:
    """Pairs of images of different pixels that show the same picture.

    Each image is paired once, with the first that it looks like: a video is a row of them.
    """
    rows = [
        (part, example)
        for part, example in study.each()
        if example.read is not None and example.read.look
    ]
    hashes = [int(example.picture.look, 16) for _, example in rows if example.picture]
    found: dict[int, Pair] = {}
    for first, other in _candidates(hashes):
        one, two = rows[first], rows[other]
        if other in found or _content(one[1]) == _content(two[1]):
            continue
        if _correlation(one[1], two[1]) >= ALIKE:
            found[other] = Pair(one, two)
    return list(found.values())


def _content(example: Example) -> str:
    if example.volumes:
        return example.volumes[0].content
    return "" if example.read is None else example.read.content


def _candidates(hashes: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of hashes that differ in fewer than `FAR` bits.

    Such hashes agree in at least one of `FAR` bands, so only images of equal bands are compared.
    """
    width = -(-BITS // FAR)
    found = set[tuple[int, int]]()
    for band in range(FAR):
        groups: dict[int, list[int]] = {}
        for place, value in enumerate(hashes):
            groups.setdefault(value >> band * width & (1 << width) - 1, []).append(place)
        for group in groups.values():
            if len(group) <= MOST_ALIKE:
                found.update(
                    pair
                    for pair in combinations(group, 2)
                    if (hashes[pair[0]] ^ hashes[pair[1]]).bit_count() < FAR
                )
    return sorted(found)


def _correlation(first: Example, other: Example) -> float:
    one, two = (
        np.frombuffer(bytes.fromhex(e.picture.tones), np.uint8).astype(float)
        for e in (first, other)
        if e.picture
    )
    one, two = one - one.mean(), two - two.mean()
    scale = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float(one @ two) / scale if scale else 0.0


@check(Severity.WARNING)
def duplicate_image(study: Study) -> Iterator[Hit]:
    """Two files of one split with equal pixels."""
    for (_, first), (part, other) in (pair for pair in same_pixels(study) if pair.within):
        yield of_example(part, other, f"equals {first.file}")


@check(Severity.ERROR)
def duplicate_across_splits(study: Study) -> Iterator[Hit]:
    """Files of two splits with equal pixels; metrics are too good."""
    for (owner, first), (part, other) in (p for p in same_pixels(study) if not p.within):
        yield of_example(part, other, f"equals {first.file} of {owner.name}")


@check(Severity.NOTE)
def near_duplicate(study: Study) -> Iterator[Hit]:
    """Two images of one split that look the same."""
    for (_, first), (part, other) in (pair for pair in look_alikes(study) if pair.within):
        yield of_example(part, other, f"looks like {first.file}")


@check(Severity.WARNING)
def near_duplicate_across_splits(study: Study) -> Iterator[Hit]:
    """Images of two splits that look the same; metrics may be too good."""
    for (owner, first), (part, other) in (p for p in look_alikes(study) if not p.within):
        yield of_example(part, other, f"looks like {first.file} of {owner.name}")


@check(Severity.WARNING)
def listed_twice(study: Study) -> Iterator[Hit]:
    """A file that a split lists twice."""
    for part in study.parts.values():
        seen = set[str]()
        for example in part.examples:
            if (file := str(example.file.absolute())) in seen:
                yield of_example(part, example, "listed before")
            seen.add(file)


@check(Severity.ERROR)
def file_in_two_splits(study: Study) -> Iterator[Hit]:
    """A file that is in two splits."""
    owners: dict[str, str] = {}
    for part, example in study.each():
        if example.sampled:  # it may have no file; equal pixels are found all the same
            continue
        owner = owners.setdefault(str(example.file.absolute()), part.name)
        if owner != part.name:
            yield of_example(part, example, f"also in {owner}")


CHECKS = (
    duplicate_image,
    duplicate_across_splits,
    near_duplicate,
    near_duplicate_across_splits,
    listed_twice,
    file_in_two_splits,
)
