"""Opens every file of a data set once, in several processes, and remembers what it holds."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from densekit.app.doctor import cache
from densekit.app.doctor.facts import Example, Mask, Part, Picture, Study, Volume
from densekit.data.reading.progress import tracked

FEW = 200
"""Files up to which no processes are started, as that takes longer than reading them."""


class Task(NamedTuple):
    """One file and how it is read: "picture", "mask", "colours", "volume" or "labels"."""

    kind: str
    path: Path


def scan(study: Study, workers: int) -> Study:
    """The study with what its files hold.

    Args:
        study: What is annotated.
        workers: Processes that read files.
    """
    tasks = list(dict.fromkeys(t for part in study.parts.values() for t in _tasks(part)))
    found = _all(tasks, workers)
    parts = {
        name: replace(part, examples=[_filled(part, e, found) for e in part.examples])
        for name, part in study.parts.items()
    }
    return replace(study, parts=parts)


def facts_of(task: Task) -> dict[str, Any]:
    """What a file holds, in plain values."""
    return asdict(_read(task))


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
    for task, facts in _new([task for task in tasks if task not in found], workers):
        found[task] = facts
        cache.append(memory, keys[task], facts)
    return found


def _new(tasks: Sequence[Task], workers: int) -> Iterator[tuple[Task, dict[str, Any]]]:
    if workers < 2 or len(tasks) <= FEW:
        for task in tracked(tasks, "opening every file once"):
            yield task, facts_of(task)
        return
    spawn = multiprocessing.get_context("spawn")  # forking is unsafe beside torch's threads
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_quiet) as pool:
        every = zip(tasks, pool.map(facts_of, tasks, chunksize=8), strict=True)
        for task, (_, facts) in zip(tracked(tasks, "opening every file once"), every, strict=True):
            yield task, facts


def _quiet() -> None:
    """One thread and no log in each process."""
    import cv2

    cv2.setNumThreads(1)
    logging.disable(logging.WARNING)


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
