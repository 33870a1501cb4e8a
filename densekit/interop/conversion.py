"""Conversion: another library's weights as an equal `DenseModel`, with a report of every tensor.

A layout is one file of this package that knows the names of one library's tensors. It states the
model's `Parts` and how the names change; `convert_tensors` builds, checks and loads.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from densekit import __version__
from densekit._names import unknown
from densekit.artifact import save_artifact
from densekit.build import build_model
from densekit.model import DenseModel

COUNTER = "num_batches_tracked"
"""A batch norm's counter, which old files and other libraries leave out."""
REPORTED = 3
"""Most tensors that an error message names."""


@dataclass(frozen=True)
class Conversion:
    """A converted model and what became of each tensor of its source.

    Attributes:
        model: The model, with the source's weights, in eval mode.
        config: Configuration of `backbone`, `neck` and `heads`, from which the model is built.
        source: What it was, in words: "detectron2 Faster R-CNN, ResNet-50 FPN".
        mapped: Name of a tensor of `model` to its name in the source.
        left: Name of a tensor of the source that has no place to the reason, in words.
        assumed: What the tensors do not say and was taken from the library's defaults, in words.
    """

    model: DenseModel
    config: Mapping[str, Any]
    source: str
    mapped: Mapping[str, str]
    left: Mapping[str, str]
    assumed: Sequence[str] = ()

    def save(self, path: str | Path) -> None:
        """Writes the model for `densekit predict`, `Predictor` and `checkpoint=` of a run."""
        save_artifact(path, self.model, yaml.safe_dump(dict(self.config), sort_keys=False))


@dataclass(frozen=True)
class Parts:
    """The constructors of a model's parts with their settings.

    Attributes:
        backbone: `partial(ResNet, depth=50)`.
        heads: Head name to constructor, `{"detection": partial(FasterRCNN, num_classes=80)}`;
            settings may be classes, further partials and frozen dataclasses.
        neck: `partial(FPN, out_channels=256)`.
    """

    backbone: partial[Any]
    heads: Mapping[str, partial[Any]]
    neck: partial[Any] | None = None

    def config(self) -> dict[str, Any]:
        """The configuration of the same model, as plain values."""
        backbone: dict[str, Any] = as_node(self.backbone)
        del backbone["_partial_"]  # the backbone needs no specs, so it is built at once
        return {
            "backbone": backbone,
            "neck": None if self.neck is None else as_node(self.neck),
            "heads": {name: as_node(head) for name, head in self.heads.items()},
        }


def convert_tensors(
    where: str,
    parts: Parts,
    info: Mapping[str, Any],
    state: Mapping[str, Tensor],
    rename: Callable[[str], str],
    *,
    source: str,
    changed: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    dropped: Mapping[str, str] | None = None,
    assumed: Sequence[str] = (),
) -> Conversion:
    """Builds a model and gives it all tensors of a source.

    Args:
        where: Beginning of error messages, `from_detectron2` or similar.
        parts: The model.
        info: Its metadata, see `DenseModel`.
        state: The source's tensors by the source's names.
        rename: Maps a source's name to the model's, e.g. `renamer(TABLE)`.
        changed: Name of the model's tensor to how its values change: reordered, without a row.
        dropped: Regular expression, matched at the beginning of the source's names, to the reason
            why such tensors are left out: "anchors are computed".
        source: See `Conversion`.
        assumed: See `Conversion`.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape; the message names it.
    """
    config = parts.config()
    model = build_model(config, {"version": __version__, **info})
    own = model.state_dict()
    left = left_out(state, dropped or {})
    mapped: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for theirs, value in state.items():
        ours = rename(theirs)
        if theirs in left:
            continue
        if reason := _without_use(ours, model, own):
            left[theirs] = reason
            continue
        if ours in mapped:
            raise ValueError(
                f"{where}: expected one tensor for {ours}, got {mapped[ours]} and {theirs}"
            )
        change = (changed or {}).get(ours)
        tensors[ours] = change(value) if change else value
        mapped[ours] = theirs
    check_same_tensors(where, own, tensors, mapped)
    model.to(*_place(tensors.values()))  # first, or float64 weights would become float32
    model.load_state_dict(tensors, strict=False)  # only counters may be missing
    return Conversion(model.eval(), config, source, mapped, left, tuple(assumed))


def _without_use(name: str, model: DenseModel, own: Mapping[str, Tensor]) -> str | None:
    """Why a tensor of an equal network is not in the model: no output depends on it."""
    if name in own:
        return None
    stage = re.match(r"backbone\.(layer[1-4])\.", name)
    if stage and model.heads and not hasattr(model.backbone, stage[1]):
        return "of a stage that no head reads"
    for head, module in model.heads.items():
        for prefix in getattr(module, "unused", ()):
            if name.startswith(f"heads.{head}.{prefix}"):
                return "of a layer that the original never runs"
    return None


def check_same_tensors(
    where: str,
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    mapped: Mapping[str, str],
) -> None:
    """Refuses tensors that are not exactly the model's, apart from counters.

    Args:
        where: Beginning of the message.
        own: The model's tensors.
        given: Those that it should receive, by its own names.
        mapped: The model's names to the source's, which the message gives.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape.
    """
    over = [mapped[name] for name in given if name not in own]
    missing = [name for name in own if name not in given and not name.endswith(COUNTER)]
    shapes = [
        f"{mapped[name]} {tuple(given[name].shape)} for {name} {tuple(own[name].shape)}"
        for name in given
        if name in own and given[name].shape != own[name].shape
    ]
    _refuse(where, {"without a place": over, "missing": missing, "of another shape": shapes})


def _refuse(where: str, found: Mapping[str, Sequence[str]]) -> None:
    texts = [f"{what}: {abridged(names)}" for what, names in found.items() if names]
    if texts:
        raise ValueError(f"{where}: expected tensors that fit whole, got {'; '.join(texts)}")


def renamer(table: Iterable[tuple[str, str]]) -> Callable[[str], str]:
    """Returns a function that renames by the first regular expression that matches.

    Args:
        table: Pairs of expression and replacement, for `re.sub`; anchor them with `^`. A name that
            none matches stays as it is.
    """
    rules = [(re.compile(pattern), replacement) for pattern, replacement in table]

    def rename(name: str) -> str:
        for pattern, replacement in rules:
            if pattern.search(name):
                return pattern.sub(replacement, name)
        return name

    return rename


def left_out(names: Iterable[str], dropped: Mapping[str, str]) -> dict[str, str]:
    """Names that begin with one of the regular expressions, with the reason of the first."""
    return {
        name: reason
        for name in names
        if (reason := next((why for how, why in dropped.items() if re.match(how, name)), None))
    }


def without_parts(
    where: str, state: Mapping[str, Tensor], leave: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Splits a state dict into what is converted and what the user leaves out.

    Args:
        where: Beginning of error messages.
        state: The source's tensors.
        leave: Names of modules of the source.

    Returns:
        The other tensors, and the names of those left out with the reason.

    Raises:
        ValueError: There is no tensor of such a module.
    """
    left: dict[str, str] = {}
    for part in leave:
        found = [name for name in state if name == part or name.startswith(f"{part}.")]
        if not found:
            tops = sorted({".".join(name.split(".")[:2]) for name in state})
            raise ValueError(unknown(f"{where}: leave", part, tops))
        left |= dict.fromkeys(found, f"leave=[{part}]")
    return {name: value for name, value in state.items() if name not in left}, left


def in_bytes(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Entries of `info` for images in 0..255, from mean and std of images in 0..1."""
    return {
        "mean": [255.0 * value for value in mean],
        "std": [255.0 * value for value in std],
        "full_scale": 255.0,
    }


def load_whole(where: str, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Loads a state dict into a module of the library that it comes from.

    Raises:
        ValueError: A tensor has no place, is missing, or has another shape; the message names it.
    """
    try:
        found = module.load_state_dict(state, strict=False)
    except RuntimeError as error:  # shapes, of which torch writes one line each
        first = str(error).splitlines()[1].strip()
        raise ValueError(f"{where}: expected tensors that fit whole, got: {first}") from error
    missing = [name for name in found.missing_keys if not name.endswith(COUNTER)]
    _refuse(where, {"without a place": found.unexpected_keys, "missing": missing})


def class_names(names: Sequence[str] | None, count: int, first: int = 0) -> list[str]:
    """The given names of classes, or `class_0` and so on.

    Args:
        names: One per class, or None.
        count: Number of classes.
        first: Number of the first class.

    Raises:
        ValueError: There is not one name per class.
    """
    if names is None:
        return [f"class_{number}" for number in range(first, first + count)]
    if len(names) != count:
        raise ValueError(f"names: expected one per class ({count}), got {len(names)}")
    return list(names)


def as_node(value: Any) -> Any:
    """Turns a constructor into the node of a configuration: its class and what is no default."""
    if isinstance(value, partial):
        assert not value.args, "settings are given by name"
        built = _class(value)
        return {**_node(built, value.keywords), "_partial_": True}
    if inspect.isclass(value):
        return {"_target_": public_path(value), "_partial_": True}
    if dataclasses.is_dataclass(value):
        return _node(type(value), vars(value))
    if isinstance(value, list | tuple):
        return [as_node(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): as_node(one) for key, one in value.items()}
    return value


def _node(built: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Class defaults are the only defaults, so a node states what differs."""
    known = inspect.signature(built).parameters
    defaults = {key: as_node(known[key].default) for key in settings if key in known}
    nodes = {key: as_node(value) for key, value in settings.items()}
    nodes = {
        key: node for key, node in nodes.items() if key not in defaults or node != defaults[key]
    }
    return {"_target_": public_path(built), **nodes}


def _class(constructor: partial[Any]) -> type:
    found = constructor.func
    assert isinstance(found, type), "a configuration builds classes alone"
    return found


def public_path(found: type) -> str:
    """The shortest dotted path of a class below its package: `densekit.heads.FasterRCNN`."""
    parts = found.__module__.split(".")
    for length in range(2, len(parts) + 1):
        home = ".".join(parts[:length])
        if getattr(sys.modules.get(home), found.__name__, None) is found:
            return f"{home}.{found.__name__}"
    return f"{found.__module__}.{found.__qualname__}"


def abridged(names: Sequence[str], most: int = REPORTED) -> str:
    """The first of some names, and how many more there are."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest


def _place(tensors: Iterable[Tensor]) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the first weight; half precision, in which files are kept, becomes 32."""
    weight = next(tensor for tensor in tensors if tensor.is_floating_point())
    short = weight.dtype in (torch.float16, torch.bfloat16)
    return weight.device, torch.float32 if short else weight.dtype
