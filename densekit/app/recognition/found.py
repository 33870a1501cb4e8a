"""What a recogniser has found: data sets that can be built, and how they are divided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = "{root}"
"""Stands for the folder in the arguments of a data set."""
OUTLINED = (
    "objects have outlines: head=mask_rcnn learns their masks beside the boxes; format={} trains on"
    " one class per pixel instead"
)
"""What to do with outlines; the format reads them as semantic masks."""
WHOLE = "whole"
"""The split of a data set that `SplitRule` divides."""

Node = dict[str, Any]
"""`_target_` and arguments of a data set."""


@dataclass(frozen=True)
class Found:
    """One way to read a folder.

    Attributes:
        format: Its name, the value of `format=`.
        text: What was recognised and where, for people.
        task: Key of `recipes.RECIPES`: boxes, masks, volumes, classes, series,
            sequences, identities.
        root: The folder.
        splits: The data set of each split, or of `WHOLE`.
        notes: What a person should know.
        certain: Whether files with annotations or their names leave no doubt; folders of images
            may be anything.
        settings: Words of the command that belong to this data set.
        outlines: Whether objects have outlines, which the file has read if a head learns masks.
    """

    format: str
    text: str
    task: str
    root: Path
    splits: Mapping[str, Node]
    notes: tuple[str, ...] = ()
    certain: bool = True
    settings: tuple[str, ...] = field(default=())
    outlines: bool = False

    def located(self, node: Any, root: str) -> Any:
        """A node with the folder in place of `ROOT`."""
        if isinstance(node, dict):
            return {key: self.located(value, root) for key, value in node.items()}
        if isinstance(node, list):
            return [self.located(value, root) for value in node]
        return node.replace(ROOT, root) if isinstance(node, str) else node


def node(target: str, **arguments: Any) -> Node:
    """A data set of `densekit.data`; arguments that are None or empty are left out."""
    given = {key: value for key, value in arguments.items() if value not in (None, "", [])}
    return {"_target_": f"densekit.data.{target}", **given}


def below(folder: str) -> str:
    """A path below `ROOT`."""
    return ROOT if folder in ("", ".") else f"{ROOT}/{folder}"


def quoted_names(names: list[str]) -> str:
    """Names as a list in YAML."""
    return json.dumps(names, ensure_ascii=False)
