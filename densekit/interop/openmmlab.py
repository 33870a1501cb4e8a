"""What OpenMMLab's checkpoints hold besides tensors, read without running code."""

from __future__ import annotations

import ast
import pickletools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from densekit.artifact import read_checkpoint

WANTED = ("model", "test_pipeline", "test_cfg")
"""Names of a configuration that a conversion looks at."""


@dataclass(frozen=True)
class Recipe:
    """What a file says besides its tensors; whatever it does not say is empty or None.

    Attributes:
        model: The configuration of the network, `model` of mmsegmentation and mmdetection.
        test_pipeline: The transforms of test images, in order, each with its `type`.
        names: Class names.
        skips_zero: Whether class 0 is value 1 of the annotation (`reduce_zero_label`).
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    test_pipeline: Sequence[Mapping[str, Any]] = ()
    names: Sequence[str] | None = None
    skips_zero: bool = False

    def transforms(self) -> Iterator[Mapping[str, Any]]:
        """The transforms, those inside others included."""
        yield from _flat(self.test_pipeline)


def read_beside_objects(path: str | Path) -> dict[str, Any]:
    """Reads a file of `torch.save` that holds other objects too, such as a history of losses.

    Returns:
        The content, with an empty object in place of each one that could run code.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is damaged, or names what torch never reads.
    """
    try:
        names = _names_called(Path(path))
    except Exception:  # a missing or damaged file, which the reader below reports
        names = []
    with torch.serialization.safe_globals([(_Empty, name) for name in names]):
        return read_checkpoint(path)


def recipe_of(meta: object) -> Recipe:
    """The recipe in the `meta` of a checkpoint, of mmengine or of mmcv before it."""
    if not isinstance(meta, Mapping):
        return Recipe()
    data = meta.get("dataset_meta")
    data = data if isinstance(data, Mapping) else {}
    config = parse_config(meta.get("cfg") or meta.get("config"))
    model, pipeline = config.get("model"), config.get("test_pipeline")
    if isinstance(model, dict) and "test_cfg" in config:  # beside the model before mmcv 1.3
        model = {"test_cfg": config["test_cfg"], **model}
    return Recipe(
        model=model if isinstance(model, dict) else {},
        test_pipeline=pipeline if isinstance(pipeline, list) else (),
        names=_names(data.get("classes") or data.get("CLASSES") or meta.get("CLASSES")),
        skips_zero=data.get("reduce_zero_label") is True,
    )


def mapping_at(around: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of a configuration, empty if it is no mapping."""
    found = around.get(name)
    return found if isinstance(found, Mapping) else {}


def normalisation_of(recipe: Recipe) -> dict[str, Any]:
    """Mean, std and order of the channels; without a mean images are not normalised.

    Raises:
        TypeError: They are not numbers; likewise ValueError and KeyError.
    """
    given = dict(mapping_at(recipe.model, "data_preprocessor"))
    for step in recipe.transforms():
        if step.get("type") == "Normalize":  # before mmsegmentation 1 and mmdetection 3
            given |= {**step, "bgr_to_rgb": step.get("to_rgb", True)}
    if not given and not recipe.test_pipeline:
        return {}  # the configuration was cut
    if given.get("mean") is None:
        channels = int(mapping_at(recipe.model, "backbone").get("in_channels", 3))
        given |= {"mean": [0.0] * channels, "std": [1.0] * channels}
    known: dict[str, Any] = {key: tuple(map(float, given[key])) for key in ("mean", "std")}
    is_turned = given.get("bgr_to_rgb") or given.get("rgb_to_bgr")  # its images are read as BGR
    is_rgb = is_turned or len(known["mean"]) != 3
    return known | {"channel_order": "rgb" if is_rgb else "bgr"}


def parse_config(text: object) -> dict[str, Any]:
    """Reads the assignments of a configuration in Python's notation, without executing it.

    Args:
        text: What mmengine keeps in a checkpoint, in which every name is resolved; anything else
            than text counts as empty.

    Returns:
        The names of `WANTED` whose values consist of literals and calls of `dict`.
    """
    found: dict[str, Any] = {}
    try:
        tree = ast.parse(text if isinstance(text, str) else "")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return found
    for line in tree.body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            name = line.targets[0].id
            try:
                found |= {name: _literal(line.value)} if name in WANTED else {}
            except (ValueError, TypeError, RecursionError):
                continue
    return found


def _literal(node: ast.expr) -> Any:
    """The value of an expression of literals, containers and `dict(...)`.

    Raises:
        ValueError: It is something else, such as another call.
    """
    if isinstance(node, ast.Call):
        if not (isinstance(node.func, ast.Name) and node.func.id == "dict"):
            raise ValueError("expected dict(...), got another call")
        made: dict[Any, Any] = {}
        for given in node.args:
            made |= dict(_literal(given))
        for keyword in node.keywords:
            value = _literal(keyword.value)
            made |= {keyword.arg: value} if keyword.arg else dict(value)
        return made
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_literal(key): _literal(value) for key, value in pairs if key is not None}
    if isinstance(node, ast.List | ast.Tuple):
        values = [_literal(value) for value in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)


class _Empty:
    """Stands for an object of a class that is not looked at."""

    def __new__(cls, *_: object, **__: object) -> _Empty:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Drops the state."""


def _names_called(path: Path) -> list[str]:
    """The functions and classes that a file names, but for those that torch accepts."""
    if zipfile.is_zipfile(path):
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with path.open("rb") as file:  # the old format: a number, a version, the machine, the content
        steps = [step for _ in range(4) for step in pickletools.genops(file)]
    called = [str(argument) for kind, argument, _ in steps if kind.name == "GLOBAL"]
    return [name.replace("__builtin__", "builtins").replace(" ", ".") for name in called]


def _names(found: object) -> list[str] | None:
    """Class names, if that is what is found."""
    if isinstance(found, list | tuple) and all(isinstance(name, str) for name in found):
        return list(found) or None
    return None


def _flat(transforms: object) -> Iterator[Mapping[str, Any]]:
    for transform in transforms if isinstance(transforms, list | tuple) else ():
        if isinstance(transform, Mapping):
            yield transform
            yield from _flat(transform.get("transforms"))
