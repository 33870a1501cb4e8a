"""The check of stored configurations: which classes they may build, and with which arguments.

A configuration from a checkpoint or a run folder may have been written by anybody. Each of its
parts has a role (`backbone`, `heads`, `inferer`, ...), and a role defines which classes it may
build. No argument may name a file, an address or further trust: weights are in the file, data are
read only by commands that are about data and by the calibration of `precision=int8`, and a run
writes only into its own folder.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from densekit.build import TORCH_CLASSES, check_node, find_class
from densekit.plugins import plugin_of


@dataclass(frozen=True)
class Role:
    """Which classes a stored configuration may build in one of its parts.

    Attributes:
        base: Base class of the part itself; empty for any class of `homes`.
        homes: Packages or modules of densekit, or prefixes of the listed names of torch and
            Lightning, whose classes the part and its nested nodes may build.
        inner: Base class of nested nodes; empty for any class of `homes`.
        plugins: Whether classes of installed plug-ins are allowed.
    """

    base: str
    homes: tuple[str, ...]
    inner: str = ""
    plugins: bool = False


_INFERER, _METRIC = "densekit.inference.Inferer", "torchmetrics.Metric"
_PARTS = ("densekit.losses", "densekit.layers", "torch.nn")
ROLES = {
    "backbone": Role(
        "densekit.backbones.Backbone", ("densekit.backbones", "torch.nn"), plugins=True
    ),
    "neck": Role("densekit.necks.Neck", ("densekit.necks", *_PARTS), plugins=True),
    "heads": Role("densekit.heads.Head", ("densekit.heads", *_PARTS), plugins=True),
    "combine": Role("densekit.heads.Combination", ("densekit.heads",), plugins=True),
    "inferer": Role(_INFERER, ("densekit.inference",), _INFERER, plugins=True),
    "metrics": Role(_METRIC, ("densekit.metrics",), _METRIC, plugins=True),
    "data": Role("densekit.data.Source", ("densekit.data",), plugins=True),
    "optimizer": Role("torch.optim.Optimizer", ("torch.optim",)),
    "schedule": Role("", ("densekit.training.schedules",)),
    "training": Role(
        "lightning.pytorch.LightningModule",
        ("densekit.training.module", "densekit.training.transfer", "densekit.training.balance"),
    ),
    "callbacks": Role(
        "lightning.pytorch.Callback", ("densekit.training", "lightning.pytorch.callbacks")
    ),
    "logger": Role(
        "lightning.pytorch.loggers.Logger",
        ("densekit.training.loggers", "lightning.pytorch.loggers"),
    ),
    "trainer": Role(
        "lightning.pytorch.Trainer", ("lightning.pytorch.Trainer", "lightning.pytorch.strategies")
    ),
}
MODEL = ("backbone", "neck", "heads", "combine")
WRITERS = ("callbacks", "logger", "trainer", "training")
"""Roles whose objects write files."""
PLACES = frozenset(
    {"path", "folder", "dirpath", "save_dir", "root_dir", "default_root_dir", "log_dir", "dir"}
    | {"tracking_uri", "base_url", "artifact_location"}
)
"""Arguments of writers that name a file or a server, whatever their value looks like."""
WEIGHT_SOURCES = frozenset(
    {"pretrained", "checkpoint_path", "cache_dir", "file", "url", "hf_hub_id", "hf_hub_filename"}
)
"""Arguments, densekit's and timm's, that load weights from elsewhere; so does `weights` as text."""
_PATH = re.compile(r"^[/\\~]|(^|[/\\])\.\.?([/\\]|$)|^[A-Za-z]:[\\/]")
_ADDRESS = re.compile(r"://|^(file|data|ftp|https?|s3|gs):")
_SCHEME = re.compile(r"^[A-Za-z][\w+.-]*:\S")
"""`hf-hub:OWNER/NAME`, `local-dir:PATH`: sources that timm would load a network from."""


def check_stored(
    cfg: Mapping[str, Any],
    trust: Sequence[str] = (),
    *,
    folder: str = "",
    given: Iterable[str] = (),
) -> None:
    """Refuses a stored configuration that would build, load or write more than its roles need.

    Args:
        cfg: The parts of the configuration to be built, plain dicts and lists.
        trust: Packages whose classes are allowed anywhere; from the command line or Python, never
            from a file.
        folder: Folder in which callbacks and loggers may write; empty for none.
        given: Keys whose value the user gives, so that the stored value is not used.

    Raises:
        ValueError: A class or value is not allowed; the message names the key and what is expected.
            Nothing has been built then, and no forbidden package imported.
    """
    replaced = frozenset(given)
    try:
        for name, part in cfg.items():
            _check_part(part, name, trust, folder, replaced)
    except RecursionError as error:
        raise ValueError(f"{name}: expected settings, got endless nesting") from error


def _check_part(
    part: Any, name: str, trust: Sequence[str], folder: str, replaced: Collection[str]
) -> None:
    for key, node, outer in _nodes(part, str(name)):
        _check_plain(node, key)
        if isinstance(node, Mapping):
            check_node(node, key)
            if "_target_" in node:
                _check_class(node, key, name, outer, trust)
        elif isinstance(node, str) and key not in replaced:
            _check_text(node, key, name, folder)


def _check_plain(node: Any, key: str) -> None:
    """Refuses what YAML can hold and a run does not store: sets, bytes, dates, computed keys."""
    if not isinstance(node, Mapping | list | tuple | str | int | float | None):
        raise ValueError(f"{key}: expected a plain value, got {type(node).__name__}")
    if isinstance(node, Mapping) and (odd := [name for name in node if "${" in str(name)]):
        raise ValueError(f"{key}: expected plain names, got {odd[0]!r}")


def without_weights(node: Any) -> Any:
    """Returns a part of a model without the arguments that load weights from elsewhere."""
    if isinstance(node, Mapping):
        return {
            key: without_weights(value)
            for key, value in node.items()
            if key not in WEIGHT_SOURCES and not (key == "weights" and _is_source(value))
        }
    return [without_weights(value) for value in node] if isinstance(node, list) else node


def _is_source(weights: Any) -> bool:
    """Whether `weights` name a source of weights; those of losses are numbers."""
    return weights is None or isinstance(weights, str)


def _nodes(node: Any, key: str, outer: bool = True) -> Iterator[tuple[str, Any, bool]]:
    """Yields (dotted key, value, whether no class encloses it) of a node and its descendants."""
    yield key, node, outer
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _nodes(value, f"{key}.{name}", outer and "_target_" not in node)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _nodes(value, f"{key}[{index}]", outer)


def _check_class(
    node: Mapping[str, Any], key: str, part: str, outer: bool, trust: Sequence[str]
) -> None:
    path, role = str(node["_target_"]), ROLES.get(part)
    package = path.partition(".")[0]
    listed, plugin = path in TORCH_CLASSES, bool(plugin_of(path))
    if package in trust or not (listed or plugin or package == "densekit"):
        find_class(path, key, trust)  # trusted, or refused with a message that says how to trust
        return
    if role is None:
        raise ValueError(f"{key}._target_: expected no class here, got {path}")
    base = role.base if outer else role.inner
    refusal = ValueError(_expected(key, path, role, base, package, plugin))
    if not (role.plugins if plugin else _may_be_of(path, role.homes, listed)):
        raise refusal
    found = find_class(path, key, trust)
    # Only a module's own name is allowed: `densekit.heads.unet.nn.X` could lead anywhere.
    if path.rpartition(".")[0] not in sys.modules or "." in found.__qualname__:
        raise refusal
    if not (plugin or listed or _within(found.__module__, role.homes)):
        raise refusal
    if not (issubclass(found, _class_of(base)) if base else _is_part(found, part, plugin)):
        raise refusal


def _is_part(found: type, part: str, plugin: bool) -> bool:
    """Whether a plug-in's class can be part of a model: a module, a dataclass, or a callable."""
    if not plugin or part not in MODEL:
        return True
    from torch import nn  # imported only when there is something to build

    called = any("__call__" in vars(base) for base in found.__mro__)
    return issubclass(found, nn.Module) or dataclasses.is_dataclass(found) or called


def _may_be_of(path: str, homes: Sequence[str], listed: bool) -> bool:
    """Whether a dotted path begins with one of the homes; nothing is imported for the check."""
    if listed:
        return _within(path, homes)
    return any(_within(path, [".".join(home.split(".")[:2])]) for home in homes)


def _within(path: str, homes: Sequence[str]) -> bool:
    return any(path == home or path.startswith(f"{home}.") for home in homes)


def _class_of(path: str) -> type:
    module, _, name = path.rpartition(".")
    found: type = getattr(importlib.import_module(module), name)
    return found


def _expected(key: str, path: str, role: Role, base: str, package: str, plugin: bool) -> str:
    kind = f"a class that derives from {base}" if base else f"a class of {', '.join(role.homes)}"
    mend = f"; if you trust {package}, say trust=[{package}]" if plugin else ""
    return f"{key}._target_: expected {kind}, as a stored configuration may build, got {path}{mend}"


def _check_text(text: str, key: str, part: str, folder: str) -> None:
    if "${" in text:
        raise ValueError(f"{key}: expected a value, as a stored config is resolved, got {text!r}")
    name = key.rpartition(".")[2]
    if name == "_target_" or (part not in ROLES and key != "run_name"):
        return
    if part == "data":
        outside = "://" in text
    elif part in WRITERS and folder and (text == folder or text.startswith(f"{folder}/")):
        outside = ".." in text.split("/")
    else:
        outside = bool(_PATH.search(text) or _ADDRESS.search(text))
        outside |= part in MODEL and bool(_SCHEME.search(text))
        outside |= part in WRITERS and name in PLACES
    if outside and part in WRITERS:
        raise ValueError(
            f"{key}: expected a path inside the run folder, got {text!r} from a stored "
            "configuration; give it on the command line"
        )
    if outside:
        raise ValueError(
            f"{key}: expected no file and no address, got {text!r} from a stored configuration"
        )
