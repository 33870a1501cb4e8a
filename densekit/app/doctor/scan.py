"""Opens every file of a data set once, in several processes, and remembers what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from densekit.app.doctor import cache
from densekit.app.doctor.facts import Example, Mask, Part, Picture, Study, Volume
from densekit.app.doctor.processes import Unread, read_all
from densekit.data.reading.progress import tracked

SHARE = 50
"""Files for which it is worth starting a further process."""


class Task(NamedTuple):
    """One file and how it is read: "picture", "mask", "colours", "volume" or "labels"."""

    kind: str
    path: Path


def scan(study: Study, workers: int) -> Study:
    """The study with what its files hold.

    Args:
        study: What is annotated.
        workers: Processes that read files; 0 reads them in this one, which a file may end.
    """
    tasks = list(dict.fromkeys(t for part in study.parts.values() for t in _tasks(part)))
    found = _all(tasks, workers)
    parts = {
        name: replace(part, examples=[_filled(part, e, found) for e in part.examples])
        for name, part in study.parts.items()
    }
    return replace(study, parts=parts)


def facts_of(task: Task) -> dict[str, Any] | Unread:
    """What a file holds, in plain values."""
    try:
        return asdict(_read(task))
    except MemoryError:
        return Unread("there is not enough memory to read it")


def _read(task: Task) -> Picture | Mask | Volume:
    kind, path = task
    if kind == "picture":
        from densekit.app.doctor.pictures import picture_of

        return picture_of(path)
    if kind in ("mask", "colours"):
        from densekit.app.doctor.masks import mask_of

        return mask_of(path, kind == "colours")
    from densekit.app.doctor.volumes import volume_of

    return volume_of(path, kind == "labels")


def _tasks(part: Part) -> Iterator[Task]:
    for example in part.examples:
        if example.sampled:
            continue
        masks = [file for file in example.mask_files if file is not None]
        if example.files:
            yield from (Task("volume", file) for file in example.files)
            yield from (Task("labels", file) for file in masks)
        else:
            yield Task("picture", example.file)
            yield from (Task(_mask_kind(part), file) for file in masks)


def _mask_kind(part: Part) -> str:
    return "colours" if part.colours else "mask"


def _all(tasks: Sequence[Task], workers: int) -> dict[Task, dict[str, Any]]:
    """The facts of every file, from memory where the file has not changed."""
    if not tasks:
        return {}
    memory = cache.cache_file(os.path.commonpath([str(t.path.absolute()) for t in tasks]))
    known = cache.load(memory)
    keys = {task: cache.key_of(*task) for task in tasks}
    found = {task: known[key] for task, key in keys.items() if key in known}
    left = [task for task in tasks if task not in found]
    read = read_all(facts_of, left, min(workers, -(-len(left) // SHARE)))
    for _, (task, facts) in zip(tracked(left, "opening every file once"), read, strict=True):
        if isinstance(facts, Unread):
            found[task] = asdict(_unread(task, facts.reason))
        else:
            found[task] = facts
            cache.append(memory, keys[task], facts)
    return found


def _unread(task: Task, reason: str) -> Picture | Mask | Volume:
    """What is said of a file that could not be read; it is not remembered."""
    if task.kind == "picture":
        return Picture(kind="broken", error=reason)
    return Mask(error=reason) if task.kind in ("mask", "colours") else Volume(error=reason)


def _filled(part: Part, example: Example, found: Mapping[Task, dict[str, Any]]) -> Example:
    """An image with what its files hold; a file that was read before stays as it is."""
    masks = [file for file in example.mask_files if file is not None]
    if example.sampled:
        return example
    if example.files:
        return replace(
            example,
            volumes=tuple(_volume(found[Task("volume", file)]) for file in example.files),
            volume_masks=tuple(_volume(found[Task("labels", file)]) for file in masks),
        )
    kind = _mask_kind(part)
    return replace(
        example,
        picture=Picture(**found[Task("picture", example.file)]),
        masks=tuple(Mask(**_counted(found[Task(kind, file)])) for file in masks),
    )


def _volume(facts: Mapping[str, Any]) -> Volume:
    sequences = {key: tuple(facts[key]) for key in ("shape", "spacing", "affine")}
    return Volume(**{**_counted(facts), **sequences})


def _counted(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts whose values, which JSON stores as text, are numbers."""
    return {**facts, "values": {int(value): count for value, count in facts["values"].items()}}
