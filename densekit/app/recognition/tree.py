"""A listing of a folder, on which the recognisers look for their formats."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from densekit.data.reading.files import IMAGE_SUFFIXES, files_below, same_name
from densekit.data.reading.stacks import ARRAY_SUFFIXES

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "tr", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "ts"), "test"),
}
"""The words of a path that name a split."""
_WORD = re.compile(r"[a-z]+")


@dataclass(frozen=True)
class Tree:
    """The files of a folder.

    Attributes:
        root: The folder.
        files: Their paths relative to it, sorted.
        only: The one file of `files` that may describe the data; "" for any.
    """

    root: Path
    files: tuple[str, ...]
    only: str = ""

    def named(self, *suffixes: str) -> list[str]:
        """The files that may describe the data and have one of the suffixes."""
        if self.only:
            return [self.only] if self.only.lower().endswith(suffixes) else []
        return [file for file in self.files if file.lower().endswith(suffixes)]

    @cached_property
    def images(self) -> list[str]:
        """The image files."""
        kinds = (*IMAGE_SUFFIXES, *ARRAY_SUFFIXES)
        return [file for file in self.files if file.lower().endswith(kinds)]

    @cached_property
    def known(self) -> set[str]:
        """The files, in Unicode's composed form."""
        return {same_name(file) for file in self.files}

    @cached_property
    def image_folders(self) -> dict[str, list[str]]:
        """The images directly in each folder that has some."""
        return by_folder(self.images)


def list_folder(root: Path, only: str = "") -> Tree:
    """Lists a folder; hidden files are left out."""
    return Tree(root, tuple(files_below(root, ("",))), only)


def by_folder(files: Iterable[str]) -> dict[str, list[str]]:
    """Files by the folder that they are in, "" for the root."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(file.rpartition("/")[0], []).append(file)
    return found


def stems(files: Iterable[str]) -> set[str]:
    """Paths without suffix, in Unicode's composed form."""
    return {same_name(os.path.splitext(file)[0]) for file in files}  # noqa: PTH122 (Path is slow)


def split_of(path: str) -> str | None:
    """The split that a path names, the last of its words; None if it names none."""
    words = _WORD.findall(path.lower())
    named = [SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS]
    return named[-1] if named else None


def likeness(folder: str, file: str) -> tuple[bool, bool]:
    """Whether a folder names the same split as a file, and whether it contains it."""
    return split_of(f"{folder}/") == split_of(file), file.rpartition("/")[0] == folder


def common_folder(files: Iterable[str]) -> str:
    """The deepest folder that contains all files, "" for the root."""
    parts = [file.split("/")[:-1] for file in files]
    shared: list[str] = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return "/".join(shared)


def by_split(files: Mapping[str, object] | Iterable[str]) -> dict[str, list[str]]:
    """Paths by the split that they name; "" for those that name none."""
    found: dict[str, list[str]] = {}
    for file in files:
        found.setdefault(split_of(file) or "", []).append(file)
    return found
