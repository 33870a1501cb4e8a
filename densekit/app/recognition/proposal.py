"""Writes what was found as a file of the group `data`, with a comment on every key."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit.app.recognition.found import WHOLE, Found, Node
from densekit.app.recognition.look import Look
from densekit.app.recognition.recipes import Recipe, epochs
from densekit.build import find_class

KEYS = {
    "root": "the folder",
    "images": "folder of the images",
    "masks": "folder of the masks",
    "annotations": "the annotations",
    "split": "the part of the data set that is read",
    "config": "the file with class names and splits",
    "labels": "stored values, or the folder of label files",
    "names": "the classes in the order of their labels; rename or reorder them here",
    "colours": "class: [red, green, blue]; rename the classes here",
    "image_prefix": "beginning of an image's name that its mask lacks",
    "image_suffix": "end of an image's name that its mask lacks",
    "mask_prefix": "beginning of a mask's name that its image lacks",
    "mask_suffix": "end of a mask's name that its image lacks",
    "list_file": "pairs of image and mask",
    "instance_masks": "outlines are read if a head learns masks",
    "channels": "1 for grey, 3 for colour",
    "dtype": "float32 keeps more than 8 bits as stored",
    "mask": "folder of the masks",
    "intensity": "how values are scaled on reading, in prediction too",
    "identities": "the people; others are kept for validation",
    "table": "the table",
    "image": "its column of images",
    "label": "its column of classes",
    "columns": "its columns of 0 and 1, one per label",
    "separator": "between the labels of an image",
    "header": "names of the columns, as the file has no header line",
    "sequence": "its column of sequences",
    "resize": "what the network sees; null leaves the images as they are",
    "splits": 'a fifth is for testing; add group: "patient([0-9]+)" to keep a patient together',
    "heads": "the heads that this data set trains",
    "train_transform": "augmentation of training images",
    "batch_size": "training images per step: less if memory does not suffice",
    "eval_batch_size": "images per step of validation and test",
    "_target_": "the class that reads the data",
    "mean": "of the stored values, one per channel",
    "std": "likewise",
    "seed": "",
    "inferer": "whole volumes are predicted in windows",
}
"""What each key is, for a person who edits the file."""
WHOLE_RULE: dict[str, Any] = {"folds": 5, "fold": 0, "val_every": 8}
"""Arguments of the `SplitRule` of data without splits."""
TRAIN_RULE: dict[str, Any] = {"every": 8}
"""Arguments of the `SplitRule` of training data without validation data."""
FEWEST = 3
"""Images from which on there are three splits."""


def adapted(found: Found, look: Look | None) -> dict[str, Node]:
    """The data sets, with the channels and depth that the images have."""
    given: dict[str, Any] = {}
    if look is not None and look.channels != 3:
        given["channels"] = look.channels
    if look is not None and look.deep:
        given["dtype"] = "float32"
    return {split: _with(node, given) for split, node in found.splits.items()}


def _with(node: Node, given: Mapping[str, Any]) -> Node:
    inner = {
        key: _with(v, given) if isinstance(v, dict) and "_target_" in v else v
        for key, v in node.items()
    }
    accepted = inspect.signature(find_class(node["_target_"])).parameters
    return inner | {key: value for key, value in given.items() if key in accepted}


def file_text(
    name: str,
    found: Found,
    splits: Mapping[str, Node],
    recipe: Recipe,
    head: Sequence[str],
    look: Look | None,
) -> str:
    """The file of the group `data`.

    Args:
        name: Name of the data set.
        found: What was recognised.
        splits: Its data sets, as `adapted` returns them.
        recipe: How it is trained.
        head: Lines of the comment at the top.
        look: The sample of images; None where there are none.
    """
    own, nodes = _divided(name, found, splits)
    scale = {"mean": list(look.mean), "std": list(look.std)} if look and look.needs_scale else {}
    source: dict[str, Any] = {
        "_target_": "densekit.data.Source",
        "heads": list(recipe.heads),
        **{split: nodes[split] for split in ("train", "val", "test") if split in nodes},
        **({} if recipe.transform is None else {"train_transform": recipe.transform}),
        "batch_size": recipe.batch_size,
        **recipe.source,
        **scale,
        "seed": "${seed}",
    }
    content: dict[str, Any] = {"resize": recipe.resize, "vars": {name: own}, "data": {name: source}}
    if recipe.inferer is not None:
        content["inferer"] = recipe.inferer
    comments = [f"# {line}".rstrip() for line in head]
    return "\n".join(["# @package _global_", *comments, *_lines(content, 0, set())]) + "\n"


def _divided(
    name: str, found: Found, splits: Mapping[str, Node]
) -> tuple[dict[str, Any], dict[str, Node]]:
    """The variables of the data set, and the nodes of its splits, which may refer to them."""
    own: dict[str, Any] = {"root": str(found.root.absolute())}
    nodes = {split: _located(found, node, name) for split, node in splits.items()}
    if WHOLE in nodes:
        own |= {WHOLE: nodes[WHOLE], "splits": _rule(WHOLE_RULE)}
        return own, {split: _part(name, split) for split in ("train", "val", "test")}
    if lacks_validation(found, nodes):
        own |= {"train": nodes["train"], "splits": _rule(TRAIN_RULE)}
        nodes |= {split: _part(name, split, "train") for split in ("train", "val")}
    return own, nodes


def lacks_validation(found: Found, splits: Collection[str]) -> bool:
    """Whether a part of the training images has to select the checkpoint.

    Archives of series are small and are compared without one.
    """
    return set(splits) == {"train", "test"} and found.task != "series"


def _rule(arguments: Mapping[str, Any]) -> Node:
    return {"_target_": "densekit.data.SplitRule", **arguments}


def _located(found: Found, node: Node, name: str) -> Node:
    located: Node = found.located(node, f"${{vars.{name}.root}}")
    masks = {"instance_masks": "${heads_need:object_masks}"} if found.outlines else {}
    return {**located, **masks}


def _part(name: str, split: str, whole: str = WHOLE) -> Node:
    return {
        "_target_": "densekit.data.Split",
        "data": f"${{vars.{name}.{whole}}}",
        "split": split,
        "splits": f"${{vars.{name}.splits}}",
    }


def command_words(name: str, recipe: Recipe, count: int, has_val: bool) -> list[str]:
    """The words of the command that trains it."""
    number = epochs(count, max(1, recipe.batch_size))
    newest = [] if has_val else ["callbacks.checkpoint.monitor=null"]
    return [
        "train",
        f"data={name}",
        *recipe.words,
        f"trainer.max_epochs={number}",
        *newest,
        f"run_name={name}",
    ]


def _lines(content: Mapping[str, Any], depth: int, said: set[str]) -> list[str]:
    """Nested keys in block style, values in flow style, each key explained once."""
    lines = []
    for key, value in content.items():
        about = "" if key in said else KEYS.get(key, "")
        said.add(key)
        comment = f" # {about}" if about else ""
        start = f"{'  ' * depth}{flow(key)}:"
        if isinstance(value, dict) and _is_block(value, depth):
            lines += [start + comment, *_lines(value, depth + 1, said)]
        else:
            plain = isinstance(value, str) and _INTERPOLATION.fullmatch(value)
            lines.append(f"{start} {value if plain else flow(value)}{comment}")
    return lines


def _is_block(value: Mapping[str, Any], depth: int) -> bool:
    """Whether a mapping is spread over lines: at the top, around data sets, or if it is long."""
    named = str(value.get("_target_", "")).startswith("densekit.data.")
    return depth == 1 or (named and depth < 4) or len(flow(value)) > 90


def flow(value: Any) -> str:
    """A value in one line of YAML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(k)}: {flow(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


_PLAIN = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
_INTERPOLATION = re.compile(r"\$\{[\w.]+\}[\w./-]*", re.ASCII)
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "nan", "inf")
"""Words that YAML may read as something else."""


def is_writable(path: Path) -> bool:
    """Whether the path can be written in a file of text."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
