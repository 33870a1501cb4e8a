"""Finds the images of a data configuration and what is annotated for each of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.app.doctor.facts import Defect, Part, Study
from densekit.app.doctor.readers import READERS
from densekit.app.doctor.readers.built import examples_of
from densekit.app.doctor.readers.records import Records
from densekit.build import instantiate
from densekit.data.concat import Concat
from densekit.data.identification.open_set import OpenSet
from densekit.data.protocols import Dataset, as_dataset
from densekit.data.splits import SPLITS
from densekit.data.subset import Subset

REFUSED = "data-refused"
"""The check that reports what the data set classes refuse."""


def collect(name: str, node: Mapping[str, Any], resize: Mapping[str, Any] | None) -> Study:
    """Reads the annotations of every split, however broken.

    Args:
        name: Name of the data set in the configuration.
        node: Its resolved configuration, that of a `densekit.data.Source`.
        resize: The resize rule of the configuration.
    """
    built = _splits(name, node)
    parts = {split: _part(split, data) for split, data in built.items()}
    rule = resize or {}
    return Study(name, parts, rule.get("min_size"), rule.get("max_size"))


def refusal(name: str, node: Mapping[str, Any]) -> Defect | None:
    """What building the data set says, None if it is built."""
    try:
        instantiate(node, f"data.{name}")
    except (ValueError, TypeError, OSError) as error:
        return Defect(REFUSED, Path(), str(error))
    return None


def _splits(name: str, node: Mapping[str, Any]) -> dict[str, Dataset | Defect]:
    """Every split with readers in the place of data set classes, or why it cannot be read."""
    if not any(split in node for split in SPLITS):  # a class of its own with several splits
        source = instantiate(node, f"data.{name}")
        return dict(source.splits)
    found: dict[str, Dataset | Defect] = {}
    for split in SPLITS:
        if node.get(split) is None:
            continue
        try:
            data = instantiate(_with_readers(node[split]), f"data.{name}.{split}")
            found[split] = as_dataset(data, f"data.{name}.{split}")
        except (ValueError, TypeError, OSError) as error:
            found[split] = Defect(REFUSED, Path(), str(error))
    return found


def _with_readers(node: Any) -> Any:
    """A copy of a node with readers in the place of the data set classes that have one."""
    if isinstance(node, Mapping):
        copy = {key: _with_readers(value) for key, value in node.items()}
        if copy.get("_target_") in READERS:
            copy["_target_"] = READERS[str(copy["_target_"])]
        return copy
    return [_with_readers(value) for value in node] if isinstance(node, list) else node


def _part(split: str, data: Dataset | Defect) -> Part:
    if isinstance(data, Defect):
        return Part(split, [], defects=[data])
    every = np.arange(len(data))
    whole = [_of_base(split, base, places) for base, places in _bases(data, every)]
    first = replace(whole[0], closed=not _is_open(data))
    if len(whole) == 1:
        return first
    examples = [example for part in whole for example in part.examples]
    return replace(
        first,
        examples=[replace(example, index=index) for index, example in enumerate(examples)],
        defects=[defect for part in whole for defect in part.defects],
        classes=list(data.describe().get("names", ())),
    )


def _bases(data: Dataset, places: NDArray[np.int64]) -> Iterator[tuple[Dataset, list[int]]]:
    """The data sets behind any wrappers, and the given images of each, once each."""
    while isinstance(data, Subset):
        places = data.positions[places]
        data = data.data
    if not isinstance(data, Concat):
        yield data, np.unique(places).tolist()
        return
    of, starts = data.part_of(places), [0, *data.ends]
    for number, part in enumerate(data.parts):
        yield from _bases(part, places[of == number] - starts[number])


def _is_open(data: Dataset) -> bool:
    while isinstance(data, Subset):
        if isinstance(data, OpenSet):
            return True
        data = data.data
    return False


def _of_base(split: str, base: Dataset, places: list[int]) -> Part:
    if isinstance(base, Records):
        examples, facts, defects = base.examples, dict(base.facts), base.defects
    else:
        every, facts = examples_of(base)
        examples, defects = every, []
    chosen = [replace(examples[place], index=n) for n, place in enumerate(places)]
    return Part(split, chosen, defects=defects, **facts)
