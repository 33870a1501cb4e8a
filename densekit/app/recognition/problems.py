"""What is wrong with a data set, or may be: a line each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from densekit._names import counted
from densekit.app.recognition.counts import MASKS_SHOW, Counts
from densekit.app.recognition.look import Look
from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked

FEW = 10
"""Training objects or images below which a class is named."""
HASHED = 5_000
"""Files up to which equal ones are looked for."""
HASHED_BYTES = 2 << 30
"""Size of all files up to which equal ones are looked for."""
_LISTED = 8


def few_examples(counts: Counts) -> list[str]:
    """Classes with few training examples, or that no training mask shows."""
    train = counts.by_split.get("train", {})
    fewest = 1 if counts.unit == MASKS_SHOW else FEW
    few = [f"{name} {count}" for name, count in train.items() if count < fewest]
    return [f"fewer than {fewest} training {counts.unit}: {_some(few)}"] if few else []


def broken_images(look: Look) -> list[str]:
    """Images that cannot be read, and images of several kinds."""
    found = []
    if look.broken:
        many = counted(len(look.broken), "image")
        found.append(
            f"{many} cannot be read, e.g. {look.broken[0]}; on_broken=skip leaves them out"
        )
    kinds = [f"{count} {mode}" for mode, count in look.modes.most_common()]
    if len(kinds) > 1:
        found.append(
            f"images of several kinds: {_some(kinds)}; all are read with {look.channels} channels"
        )
    return found


def repeated_images(splits: Mapping[str, Dataset]) -> list[str]:
    """Equal image files, in one split or in several; of small data sets only."""
    paths = {
        s: [p for i in range(len(d)) if (p := d.path(i)) is not None] for s, d in splits.items()
    }
    if sum(map(len, paths.values())) > HASHED:
        return []
    sizes = Counter(size for of in paths.values() for path in of if (size := _size(path)) >= 0)
    if sum(size * count for size, count in sizes.items()) > HASHED_BYTES:
        return []
    owners: dict[str, list[tuple[str, Path]]] = {}
    every = [(split, path) for split, of in paths.items() for path in of if sizes[_size(path)] > 1]
    for split, path in tracked(every, "looking for equal images"):
        owners.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), []).append((split, path))
    return _said([of for of in owners.values() if len({path for _, path in of}) > 1])


def _said(groups: Sequence[Sequence[tuple[str, Path]]]) -> list[str]:
    across = [of for of in groups if len({split for split, _ in of}) > 1]
    if across:
        (one, first), (other, second) = (
            across[0][0],
            next(x for x in across[0] if x[0] != across[0][0][0]),
        )
        many = counted(len(across), "image")
        return [f"{many} in more than one split, e.g. {first} ({one}) = {second} ({other})"]
    if groups:
        many = counted(len(groups), "image")
        return [f"{many} stored more than once, e.g. {groups[0][0][1]} = {groups[0][1][1]}"]
    return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _some(items: Iterable[str]) -> str:
    listed = list(items)
    return ", ".join(listed[:_LISTED]) + (
        f", ... ({len(listed)} in all)" if listed[_LISTED:] else ""
    )
