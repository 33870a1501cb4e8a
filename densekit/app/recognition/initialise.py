"""One run of `densekit init`: recognises, counts, writes a file and says what to do next."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from densekit._files import write_text
from densekit._names import counted
from densekit.app.config.groups import extra_folders, own_conf
from densekit.app.errors import UsageError
from densekit.app.recognition.counts import Counts, count
from densekit.app.recognition.found import WHOLE, Found, Node
from densekit.app.recognition.look import Look, look_at
from densekit.app.recognition.problems import broken_images, few_examples, repeated_images
from densekit.app.recognition.proposal import (
    FEWEST,
    TRAIN_RULE,
    WHOLE_RULE,
    adapted,
    command_words,
    file_text,
    is_writable,
    lacks_validation,
)
from densekit.app.recognition.recipes import Recipe, recipe_of
from densekit.app.recognition.recognise import recognise
from densekit.app.recognition.report import report
from densekit.app.terminal import print_lines, quoted
from densekit.build import instantiate
from densekit.data.protocols import Dataset
from densekit.data.splits import Split, SplitRule

OF_IMAGES = ("boxes", "masks", "classes", "identities")
"""Tasks whose images are opened one by one."""


def initialise(
    source: Path, name: str | None, output: Path, wanted: str | None, overwrite: bool
) -> int:
    """Writes a file of the group `data` for a folder; returns 1 if it has a problem to mend first.

    Args:
        source: The folder, or the file that describes the data.
        name: Name of the data set; that of the folder by default.
        output: Folder of the file.
        wanted: The format; the only one there is by default.
        overwrite: Whether an existing file is replaced.

    Raises:
        UsageError: If nothing is recognised, or several formats are; or the file exists.
    """
    with _warnings():  # readers are only tried
        found = recognise(source, wanted)
    if not is_writable(found.root.absolute()):
        raise UsageError(f"source: expected a path in UTF-8, got {found.root}; rename the folder")
    file = new_file(output, name, found.root, overwrite)
    print_lines(f"found: {found.text} (format={found.format})")
    problems = list(found.notes)
    with _warnings() as warned:
        splits, look, error = _built(found)
    total = len(splits.get("train", ()))
    sizes = look.sizes if look is not None else _sides(splits)
    recipe = recipe_of(found.task, sizes, max(1, total))
    words = command_words(file.stem, recipe, max(1, total), not splits or "val" in splits)
    command = f"densekit {' '.join(words)}"
    if splits:
        counts = count(splits)
        report(found.task, splits, counts, look)
        problems += [*warned, *_problems(splits, counts, look)]
    for problem in dict.fromkeys(problems):
        print_lines(f"note: {problem}")
    if error is not None:
        print_lines(f"to be mended first: {error}")
    _write(file, found, look, recipe, command, splits)
    print_lines(f"wrote: {file}", *_unreachable(file), f"train: {command}")
    for line in _further(found.task, file.stem):
        print_lines(line)
    return 0 if error is None else 1


def new_file(output: Path, name: str | None, root: Path, overwrite: bool) -> Path:
    """The file to write.

    Raises:
        UsageError: If the name is none, is taken by an option of densekit, or the file exists.
    """
    chosen = name or default_name(root)
    if not re.fullmatch(r"[A-Za-z]\w*", chosen, re.ASCII):
        raise UsageError(
            f"name: expected letters, digits and _, beginning with a letter, got {name}"
        )
    if _is_taken(chosen):
        raise UsageError(f"name: expected a name that densekit does not use itself, got {chosen}")
    file = output / f"{chosen}.yaml"
    if file.exists() and not overwrite:
        raise UsageError(
            f"output: expected a new file, got {file}, which exists; name=NAME writes another one,"
            " overwrite=true replaces it"
        )
    return file


def default_name(root: Path) -> str:
    """The name of a folder in ASCII letters, digits and underscores, without accents."""
    plain = unicodedata.normalize("NFKD", root.absolute().name.lower()).encode("ascii", "ignore")
    name = re.sub(r"\W+", "_", plain.decode()).strip("_")
    name = name if name[:1].isalpha() else f"data_{name}".rstrip("_")
    return f"my_{name}" if name == "data" or _is_taken(name) else name


def _is_taken(name: str) -> bool:
    return (own_conf() / "data" / f"{name}.yaml").is_file()


def _unreachable(file: Path) -> list[str]:
    """A line if the command would not find the file."""
    folders = [folder / "data" for folder in [*extra_folders(), own_conf()]]
    if file.parent.resolve() in folders:
        return []
    return [f"save as: conf/data/{file.name} in the working folder, where commands look for it"]


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """Collects the warnings of the readers, which are printed with the other findings."""
    found: list[str] = []

    class Collect(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.levelno >= logging.WARNING:
                found.append(record.getMessage())
            return False

    log, collect = logging.getLogger("densekit.data"), Collect()
    log.addFilter(collect)
    try:
        yield found
    finally:
        log.removeFilter(collect)


def _built(found: Found) -> tuple[dict[str, Dataset], Look | None, str | None]:
    """The data sets of the splits, a look at their images, and why there are none."""
    try:
        nodes = found.splits
        splits = _splits(found, nodes)
        look = _look(found, splits)
        if adapted(found, look) != dict(nodes):  # masks and volumes check their images
            splits = _splits(found, adapted(found, look))
        return splits, look, None
    except (ValueError, ImportError) as error:
        return {}, None, str(error).removeprefix(f"{found.format}: ")


def _splits(found: Found, nodes: Mapping[str, Node]) -> dict[str, Dataset]:
    root = str(found.root.absolute())
    sets = {
        split: instantiate(found.located(node, root), found.format) for split, node in nodes.items()
    }
    if WHOLE in sets:
        whole = sets[WHOLE]
        if len(whole) < FEWEST:
            raise ValueError(
                f"{found.root}: expected {FEWEST} images or more for three splits, got {len(whole)}"
            )
        rule = SplitRule(**WHOLE_RULE)
        return {split: Split(whole, split, rule) for split in ("train", "val", "test")}
    if lacks_validation(found, sets):
        rule = SplitRule(**TRAIN_RULE)
        return {s: Split(sets["train"], s, rule) for s in ("train", "val")} | {"test": sets["test"]}
    return {split: sets[split] for split in ("train", "val", "test") if split in sets}


def _look(found: Found, splits: Mapping[str, Dataset]) -> Look | None:
    if found.task not in OF_IMAGES:
        return None
    each = (dataset.path(index) for dataset in splits.values() for index in range(len(dataset)))
    return look_at([path for path in each if path is not None])


def _sides(splits: Mapping[str, Dataset]) -> np.ndarray:
    """(N, D) sides of volumes or series, where they are known without reading."""
    return np.asarray(splits["train"].sizes) if "train" in splits else np.empty((0, 0))


def _problems(splits: Mapping[str, Dataset], counts: Counts, look: Look | None) -> list[str]:
    found = few_examples(counts)
    found += [f"{counted(n, 'mask')} of {split} show nothing" for split, n in counts.empty.items()]
    found += [f"{counted(len(counts.broken), 'mask')}: {counts.broken[0]}"] if counts.broken else []
    found += broken_images(look) if look is not None else []
    return [*found, *repeated_images(splits)]


def _write(
    file: Path,
    found: Found,
    look: Look | None,
    recipe: Recipe,
    command: str,
    splits: Mapping[str, Any],
) -> None:
    sizes = ", ".join(f"{split} {len(dataset):,}" for split, dataset in splits.items())
    head = [
        f"Written by densekit init {quoted(found.root)}: {found.text}.",
        *([f"Images: {sizes}."] if sizes else []),
        f"Train:  {command}",
        f"The folder at another place: vars.{file.stem}.root=FOLDER",
    ]
    write_text(file, file_text(file.stem, found, adapted(found, look), recipe, head, look))


def _further(task: str, name: str) -> list[str]:
    """What else a person would try."""
    if task == "volumes":
        planned = f"{name}_planned"
        return [f"plan:  densekit plan data={name} output=conf/experiment/{planned}.yaml"]
    if task in ("boxes", "masks", "classes"):
        return [
            "       with few images start from trained weights: add backbone=resnet50"
            " backbone.weights=IMAGENET1K_V2"
        ]
    return []
