"""Prints what was found: splits, classes, images and problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from densekit._names import counted
from densekit.app.recognition.counts import Counts
from densekit.app.recognition.look import Look
from densekit.app.terminal import print_lines, print_numbers
from densekit.data.identification.dataset import IdentityImages
from densekit.data.protocols import Dataset
from densekit.data.subset import unwrapped

NOUNS = {"volumes": "volumes", "series": "series", "sequences": "sequences"}
"""What a data set of each task consists of, if not of images."""
CLASSES = 40
"""Most classes that are listed."""


def report(task: str, splits: Mapping[str, Dataset], counts: Counts, look: Look | None) -> None:
    """Prints the table of splits and classes, and one line on the images."""
    rows = [[NOUNS.get(task, "images"), *(f"{len(dataset):,}" for dataset in splits.values())]]
    if people := [_people(dataset) for dataset in splits.values()]:
        rows += [["people", *people]] if any(people) else []
    names = list(dict.fromkeys(name for of in counts.by_split.values() for name in of))
    for name in names[:CLASSES]:
        rows.append([name, *(f"{counts.by_split[split].get(name, 0):,}" for split in splits)])
    if names[CLASSES:]:
        rows.append([f"... {len(names):,} classes in all", *([""] * len(splits))])
    if names:
        print_lines(_title(names, counts))
    print_numbers(["", *splits], rows)
    if look is not None and len(look.sizes):
        print_lines(image_line(look))


def _people(dataset: Dataset) -> str:
    whole, _ = unwrapped(dataset)
    return f"{whole.num_identities:,}" if isinstance(whole, IdentityImages) else ""


def _title(names: Sequence[str], counts: Counts) -> str:
    title = f"{counted(len(names), 'class', 'classes')}: {counts.unit}"
    if counts.looked_at:
        sampled = ", ".join(f"{number} of {split}" for split, number in counts.looked_at.items())
        title += f", of a sample ({sampled})"
    return title


def image_line(look: Look) -> str:
    """Channels, depth and sizes of the images."""
    low, middle, high = (
        f"{int(size[0])}x{int(size[1])}"
        for size in (look.sizes.min(0), np.median(look.sizes, axis=0), look.sizes.max(0))
    )
    sizes = low if low == high else f"{low} to {high}, median {middle}"
    sample = (
        f" ({len(look.sizes)} of {look.total:,} opened)" if len(look.sizes) < look.total else ""
    )
    depth = "more than 8 bits" if look.deep else "8 bits"
    return f"images: {counted(look.channels, 'channel')}, {depth}, height x width {sizes}{sample}"
