"""Images that are there twice, in one split or in two."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from densekit.app.doctor.facts import Example, Part, Study
from densekit.app.doctor.findings import Hit, Severity, check, of_example

BITS = 64
FAR = 6
"""Differing bits of two perceptual hashes from which images do not look alike."""
ALIKE = 0.995
"""Correlation of two thumbnails from which their images are the same picture."""
NEXT = 50
"""Images of equal hash bands that each one is compared with, the next ones: a video is long."""
CHUNK = 10_000
"""Pairs whose thumbnails are compared at once, to save memory."""


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
    pictures = [example.picture for _, example in rows if example.picture is not None]
    first, other = _candidates([int(picture.look, 16) for picture in pictures])
    alike = _correlation([picture.tones for picture in pictures], first, other) >= ALIKE
    found: dict[int, Pair] = {}
    for one, two in zip(first[alike].tolist(), other[alike].tolist(), strict=True):
        if two not in found and pictures[one].content != pictures[two].content:
            found[two] = Pair(rows[one], rows[two])
    return list(found.values())


def _content(example: Example) -> str:
    if example.volumes:
        return example.volumes[0].content
    return "" if example.read is None else example.read.content


def _candidates(hashes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of hashes that differ in fewer than `FAR` bits: the earlier one, and the other.

    Such hashes agree in at least one of `FAR` bands, so only images of equal bands are compared.
    """
    codes, width = np.asarray(hashes, np.uint64), -(-BITS // FAR)
    pairs = [np.empty(0, np.int64)]
    for band in range(FAR):
        bits = codes >> np.uint64(band * width) & np.uint64((1 << width) - 1)
        order = np.argsort(bits, kind="stable")
        for step in range(1, min(NEXT, len(codes))):
            first, other = order[:-step], order[step:]
            near = bits[first] == bits[other]
            near[near] = _differing_bits(codes[first[near]], codes[other[near]]) < FAR
            pairs.append(first[near] * len(codes) + other[near])
    first, other = np.divmod(np.unique(np.concatenate(pairs)), max(1, len(codes)))
    return first, other


def _differing_bits(first: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    octets = (first ^ other).view(np.uint8).reshape(-1, 8)
    count: NDArray[np.int64] = np.unpackbits(octets, axis=1).sum(axis=1, dtype=np.int64)
    return count


def _correlation(
    tones: Sequence[str], first: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Correlation of the thumbnails of each pair; 0 for one of a single tone."""
    values = np.frombuffer(bytes.fromhex("".join(tones)), np.uint8)
    thumbnails = values.reshape(len(tones), -1 if tones else 1).astype(np.float32)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.maximum(np.linalg.norm(thumbnails, axis=1, keepdims=True), 1e-6)
    found = np.empty(len(first))
    for start in range(0, len(first), CHUNK):
        part = slice(start, start + CHUNK)
        found[part] = (thumbnails[first[part]] * thumbnails[other[part]]).sum(axis=1)
    return found


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
