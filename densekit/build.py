"""Building of objects from a configuration, and the check of the classes that it names.

The user's own configuration may name classes of densekit, of installed plug-ins and of
`TORCH_CLASSES`, and nothing else; functions are never called, because `torch.hub.load` and
`os.system` are functions. A configuration read from a file (a checkpoint, a run folder) is data of
unknown origin and may build far less: see `densekit.trust`.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from densekit._names import unknown
from densekit.plugins import check_contract, plugin_of

if TYPE_CHECKING:
    from densekit.model import DenseModel

INTERNAL_KEYS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_"})
"""Keys of a node that are for Hydra and not for the class."""
_FLAGS = ("_partial_", "_recursive_")
_MISSING = re.compile(r"([\w.]+)\.__init__\(\) missing \d+ required [\w -]*arguments?: (.*)")
"""How Python refuses a call without a required argument."""


def _names(package: str, classes: str) -> set[str]:
    return {f"{package}.{name}" for name in classes.split()}


TORCH_CLASSES = frozenset(
    _names("torch.optim", "SGD Adam AdamW NAdam RAdam RMSprop Adagrad")
    | _names("torch.nn", "BatchNorm1d BatchNorm2d BatchNorm3d SyncBatchNorm GroupNorm Identity")
    | _names("torch.nn", "InstanceNorm1d InstanceNorm2d InstanceNorm3d LayerNorm")
    | _names("torch.nn", "ReLU LeakyReLU GELU SiLU Hardswish Mish PReLU")
    | _names("lightning.pytorch", "Trainer")
    | _names("lightning.pytorch.callbacks", "ModelCheckpoint EarlyStopping LearningRateMonitor")
    | _names("lightning.pytorch.callbacks", "RichProgressBar TQDMProgressBar ModelSummary Timer")
    | _names("lightning.pytorch.callbacks", "RichModelSummary DeviceStatsMonitor WeightAveraging")
    | _names("lightning.pytorch.callbacks", "EMAWeightAveraging StochasticWeightAveraging")
    | _names("lightning.pytorch.loggers", "CSVLogger TensorBoardLogger WandbLogger MLFlowLogger")
    | _names("lightning.pytorch.profilers", "SimpleProfiler AdvancedProfiler PyTorchProfiler")
    | _names("lightning.pytorch.strategies", "DDPStrategy SingleDeviceStrategy")
)
"""The classes outside densekit and its plug-ins that a configuration may name."""


def find_class(path: str, key: str = "", trust: Sequence[str] = ()) -> type:
    """Imports and returns the class that a `_target_` names, if it may be built.

    Args:
        path: Dotted path, e.g. `densekit.heads.FasterRCNN`.
        key: Configuration key of its node, for messages.
        trust: Further top-level packages whose classes may be built, whatever contract they state.

    Raises:
        ValueError: The path is not trusted, does not exist, is not a class, or belongs to a plug-in
            of another version of the contract.
    """
    where = f"{key}._target_" if key else "_target_"
    if "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(
            f"{where}: expected the dotted path of a class, such as package.Class, got {path!r}"
        )
    if any(part.startswith("__") for part in path.split(".")):
        raise ValueError(
            f"{where}: expected a class, got {path}: importing __main__ runs a program"
        )
    _check_home(path, where, path, trust)
    found = _locate(path, where)
    if not inspect.isclass(found):
        raise ValueError(f"{where}: expected a class, the only thing a config builds, got {path}")
    # A path such as `densekit.build.importlib` reaches any module: the class's own one decides.
    _check_home(found.__module__, where, path, trust)
    return found


def check_targets(cfg: Mapping[str, Any], trust: Sequence[str] = ()) -> None:
    """Refuses a configuration that would build anything but trusted classes.

    Args:
        cfg: Resolved configuration, plain dicts and lists.
        trust: Further packages whose classes may be built.

    Raises:
        ValueError: See `find_class`; also for interpolations, which would be evaluated on use, for
            positional arguments (`_args_`), which no check by name would see, and for a `_convert_`
            other than "all", which would pass OmegaConf objects to a class.
    """
    for key, value in walk(cfg):
        if isinstance(value, str) and "${" in value:
            raise ValueError(
                f"{key}: expected a value, as a stored config is resolved, got {value!r}"
            )
        if isinstance(value, Mapping):
            check_node(value, key)
            if "_target_" in value:
                find_class(str(value["_target_"]), key, trust)


def check_node(node: Mapping[str, Any], key: str) -> None:
    """Refuses keys of a node that are for Hydra, except for the few that are needed.

    Raises:
        ValueError: See `check_targets`.
    """
    where = f"{key}." if key else ""
    if "_args_" in node:
        raise ValueError(
            f"{where}_args_: expected no such key, as arguments are given by name, got"
            f" {node['_args_']!r}"
        )
    for flag in _FLAGS:
        if not isinstance(node.get(flag, False), bool):
            raise ValueError(f"{where}{flag}: expected true or false, got {node[flag]!r}")
    if node.get("_convert_", "all") != "all":
        raise ValueError(f"{where}_convert_: expected 'all', got {node['_convert_']!r}")


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of a node and of all its descendants, parents first."""
    yield key, node
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from walk(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from walk(value, f"{key}[{index}]")


def check_part(node: Any, key: str) -> None:
    """Refuses a node that must describe an object but names no class.

    Raises:
        ValueError: The node has no `_target_`.
    """
    if isinstance(node, Mapping) and node.get("_target_"):
        return
    names = [str(name) for name in node] if isinstance(node, Mapping) else []
    hint = ""
    if close := difflib.get_close_matches("_target_", names, n=1, cutoff=0.8):
        hint = f"; did you mean '_target_' by {close[0]!r}?"
    elif names:
        hint = f"; name its class, or leave all of it out: ~{key}.{names[0]}"
    raise ValueError(f"{key}: expected a _target_, got {', '.join(names) or node}{hint}")


def _refused(key: str, error: BaseException | None) -> ValueError:
    """The message of a class that refused its arguments, with the key of its node."""
    found = _MISSING.match(str(error))
    if found is None:
        return ValueError(f"{key}: {error}")
    names = ", ".join(re.findall(r"'(\w+)'", found[2]))
    return ValueError(f"{key} ({found[1]}): expected {names}, got none")


def instantiate(node: Mapping[str, Any], key: str) -> Any:
    """Builds the object that a node describes, nested nodes first.

    Args:
        node: Plain dict with `_target_`; `_partial_: true` gives a `functools.partial`.
        key: Configuration key of the node, for messages.

    Raises:
        ValueError: The node has no `_target_`, or a class refused its arguments; the message begins
            with the key of its node.
    """
    import hydra.errors
    import hydra.utils

    check_part(node, key)
    try:
        return hydra.utils.instantiate(node, _convert_="all")
    except hydra.errors.InstantiationException as error:
        cause = error.__cause__
        known = isinstance(cause, ValueError | TypeError | OSError | ModuleNotFoundError)
        known |= "can't allocate memory" in str(cause)  # a RuntimeError of torch
        if not known and type(cause).__name__ != "MisconfigurationException":  # Lightning's
            raise  # a bug, not a wrong value: its traceback helps
        inner = re.search(r"^full_key: (\S+)$", str(error), re.MULTILINE)
        path = f"{key}.{inner[1]}" if inner else key
        raise _refused(path, cause) from cause


def build_model(cfg: Mapping[str, Any], info: Mapping[str, Any]) -> DenseModel:
    """Builds a model from the configuration of its backbone, neck and heads.

    Args:
        cfg: Resolved configuration with the keys `backbone`, `neck` (may be None), `heads` and,
            optionally, `combine`.
        info: Metadata of the data, see `DenseModel`: names, ids, mean, std, resize rule.
    """
    from densekit.model import DenseModel

    def maker(node: Mapping[str, Any], key: str) -> Callable[..., Any]:
        # Necks, heads and combinations are built by the model, with or without `_partial_`.
        make: Callable[..., Any] = instantiate({**node, "_partial_": True}, key)

        def made(*specs: Any) -> Any:
            try:
                return make(*specs)
            except TypeError as error:
                if _MISSING.match(str(error)) is None:
                    raise  # a bug, not a wrong value
                raise _refused(key, error) from error

        return made

    return DenseModel(
        backbone=instantiate(cfg["backbone"], "backbone"),
        neck=maker(cfg["neck"], "neck") if cfg.get("neck") else None,
        heads={name: maker(node, f"heads.{name}") for name, node in cfg["heads"].items()},
        info=dict(info),
        combine={
            name: maker(node, f"combine.{name}")
            for name, node in (cfg.get("combine") or {}).items()
        },
    )


def metric_recipes(cfg: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Returns head name to metric name to constructor, for heads whose metrics are configured.

    A metric set to null is left out.
    """
    return {
        head: {
            name: instantiate(node, f"metrics.{head}.{name}")
            for name, node in named.items()
            if node is not None
        }
        for head, named in cfg["metrics"].items()
    }


def _check_home(home: str, where: str, path: str, trust: Sequence[str]) -> None:
    """Refuses a class whose dotted path or module, `home`, lies in no package that may be built."""
    package = home.partition(".")[0]
    if path in TORCH_CLASSES or package == "densekit" or package in trust:
        return
    plugin = plugin_of(home)
    if not plugin:
        raise ValueError(_refusal(where, path, package))
    check_contract(plugin)


def _refusal(where: str, path: str, package: str) -> str:
    return (
        f"{where}: expected a class of densekit, of an installed plug-in or of a short list of "
        f"torch and lightning names, got {path}; if you trust {package}, say trust=[{package}] "
        f"(Python: trust=[{package!r}])"
    )


def _locate(path: str, where: str) -> Any:
    """The object at a dotted path: the longest importable module, then attributes."""
    parts = path.split(".")
    found: Any = _top(parts, where)
    for index, part in enumerate(parts[1:], start=1):
        module = ".".join(parts[: index + 1])
        if not hasattr(found, part) and inspect.ismodule(found) and _is_module(module):
            importlib.import_module(module)
        if not hasattr(found, part):
            names = [name for name in dir(found) if not name.startswith("_")]
            owner = ".".join(parts[:index])
            raise ValueError(unknown(f"{where}: {owner}", part, names))
        found = getattr(found, part)
    return found


def _top(parts: Sequence[str], where: str) -> Any:
    try:
        return importlib.import_module(parts[0])
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{where}: expected a class that can be imported, got {'.'.join(parts)}: {error}"
        ) from error


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
