"""Checks values against the annotations of a class, without importing it."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from densekit.app.errors import UsageError

TEXT = ("str", "Path", "PathLike", "_PATH")
LISTS = ("Sequence", "Iterable", "list", "tuple", "set")
MAPPINGS = ("Mapping", "dict")
TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false", "None": "null"}
_NUMBER = (int, float)

RUN_KEYS = {
    "seed": "int",
    "precision": "str | int | None",
    "run_name": "str | None",
    "progress": "str",
    "profile": "bool",
    "test": "bool",
    "assert_expected": "bool",
    "expected": "Mapping[str, Any] | None",
    "resume": "str | None",
    "checkpoint": "str | None",
    "reset_head": "bool | Sequence[str]",
    "map_classes_by_name": "bool",
    "trust": "Sequence[str]",
    "keep_heads": "Sequence[str]",
    "resize": "Mapping[str, Any] | None",
    "data": "Mapping[str, Any]",
    "heads": "Mapping[str, Any]",
    "combine": "Mapping[str, Any]",
}
"""Keys that are not arguments of a class, and their types."""
LEAST = {
    r"seed": 0,
    r"optimizer\.(lr|weight_decay|momentum|eps)": 0,
    r"trainer\.(max_epochs|max_steps|num_sanity_val_steps)": -1,
    r"trainer\.(min_epochs|min_steps|log_every_n_steps|gradient_clip_val)": 0,
    r"trainer\.(limit_\w+_batches|overfit_batches)": 0,
    r"trainer\.(num_nodes|accumulate_grad_batches|check_val_every_n_epoch)": 1,
    r"data\.[^.]+\.(batch_size|eval_batch_size|repeats)": 1,
    r"data\.[^.]+\.num_workers": 0,
    r"neck\.out_channels|backbone\.(width|in_channels)": 1,
    r"callbacks\.[^.]+\.keep": -1,
    r"callbacks\.[^.]+\.(every_n_epochs|every_n_steps|last_every_n_steps)": 1,
}
"""Pattern of a key to its smallest value, for keys that libraries would check too late."""
MOST = {r"seed": 2**32 - 1}
LARGEST = 2**63
"""Whole numbers from here on fit into no tensor and no float."""


def check_number(key: str, value: Any) -> None:
    """Refuses a number that is out of range.

    Raises:
        UsageError: Names key, range and number.
    """
    if key == "trainer.devices" and value in (0, "0", "", []):
        raise UsageError(f"{key}: expected at least 1, -1 or auto for all, or a list, got {value}")
    if isinstance(value, bool) or not isinstance(value, _NUMBER):
        return
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        raise UsageError(f"{key}: expected a number of 64 bits, got {str(value)[:40]}...")
    if re.fullmatch(r"callbacks\.[^.]+\.every_minutes", key) and not value > 0:
        raise UsageError(f"{key}: expected a positive number of minutes, got {value}")
    if key == "trainer.val_check_interval" and not value > 0:
        raise UsageError(f"{key}: expected a share of an epoch or a number of steps, got {value}")
    for pattern, least in LEAST.items():
        most = MOST.get(pattern)
        finite = math.isfinite(value)
        if re.fullmatch(pattern, key) and not (finite and least <= value <= (most or value)):
            accepted = f"{least} to {most}" if most else f"at least {least}"
            raise UsageError(f"{key}: expected a number of {accepted}, got {value}")


def check_kind(key: str, value: Any, annotation: str) -> None:
    """Refuses a value that does not have the type of an annotation.

    Args:
        key: The configuration key, for the message.
        value: A YAML value; interpolations and objects to build are not checked.
        annotation: As written, `Sequence[int] | None`; an unknown name accepts all.

    Raises:
        UsageError: Names key, accepted types and value.
    """
    members = _members(annotation)
    if members and not any(_takes(member, value) for member in members):
        type_names = [_type_name(member) for member in members if member != "Tensor"]
        accepted = " or ".join(dict.fromkeys(type_names))
        raise UsageError(f"{key}: expected {accepted}, got {value!r}")


def is_text(annotation: str) -> bool:
    """Whether an annotation accepts only text and paths, or lists of them."""
    members = [_inner(member) for member in _members(annotation)]
    kinds = [name for name, _ in members if name != "None"]
    return bool(kinds) and all(
        name in TEXT or (name in LISTS and all(is_text(part) for part in parts if part != "..."))
        for name, parts in members
        if name != "None"
    )


def _members(annotation: str) -> list[str]:
    """The members of a union in any notation."""
    return _alternatives(ast.parse(annotation, mode="eval").body) if annotation else []


def _alternatives(node: ast.expr) -> list[str]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if node.value.id == "Union":
            return [name for part in parts for name in _alternatives(part)]
        if node.value.id == "Optional":
            return [*_alternatives(node.slice), "None"]
    return [ast.unparse(node)]


def _inner(member: str) -> tuple[str, list[str]]:
    """Splits `Mapping[str, int]` into its name and its parameters."""
    node = ast.parse(member, mode="eval").body
    if not isinstance(node, ast.Subscript):
        return member, []
    parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    return ast.unparse(node.value), [ast.unparse(part) for part in parts]


def _takes(member: str, value: Any) -> bool:
    name, parts = _inner(member)
    if isinstance(value, str) and ("${" in value or value == "???"):
        return True
    if isinstance(value, Mapping) and "_target_" in value:
        return name not in TYPE_NAMES and name not in TEXT
    kind = _KINDS.get(name)
    return True if kind is None else kind(value, parts)


def _is_list(value: Any, parts: Sequence[str]) -> bool:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return False
    fixed = len(parts) > 1 and "..." not in parts
    kinds = parts if fixed else [*parts[:1]] * len(value)
    pairs = zip(kinds, value, strict=False)
    return all(not _members(k) or any(_takes(m, v) for m in _members(k)) for k, v in pairs)


def _is_mapping(value: Any, parts: Sequence[str]) -> bool:
    if not isinstance(value, Mapping):
        return False
    members = _members(parts[1]) if len(parts) == 2 else ["Any"]
    return all(any(_takes(member, each) for member in members) for each in value.values())


_KINDS: dict[str, Callable[[Any, Sequence[str]], bool]] = {
    "None": lambda value, _: value is None,
    "bool": lambda value, _: isinstance(value, bool),
    "int": lambda value, _: isinstance(value, int) and not isinstance(value, bool),
    "float": lambda value, _: isinstance(value, _NUMBER) and not isinstance(value, bool),
    "Tensor": lambda *_: False,
    "Literal": lambda value, parts: repr(value) in parts,
    **dict.fromkeys(TEXT, lambda value, _: isinstance(value, str)),
    **dict.fromkeys(LISTS, _is_list),
    **dict.fromkeys(MAPPINGS, _is_mapping),
}


def _type_name(member: str) -> str:
    name, parts = _inner(member)
    if name in TEXT:
        return "text"
    if name in LISTS:
        return f"a list of {parts[0]}" if parts else "a list"
    if name in MAPPINGS:
        known = TYPE_NAMES.get(parts[1]) if len(parts) == 2 else None
        return f"a mapping to {known}" if known else "a mapping"
    return " or ".join(parts) if name == "Literal" else TYPE_NAMES.get(name, name)
