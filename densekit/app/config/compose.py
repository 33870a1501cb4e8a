"""Composes a configuration with Hydra and checks it before anything is built."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from densekit._names import counted, unknown
from densekit.app.config import groups
from densekit.app.config.overrides import Overrides, Word, first_job
from densekit.app.config.quoting import as_text
from densekit.app.config.targets import check_arguments, check_nodes, read
from densekit.app.config.values import is_text
from densekit.app.errors import UsageError

logger = logging.getLogger(__name__)

OPEN = ("callbacks", "combine", "data", "heads", "logger", "metrics", "vars")
"""Mappings whose entries are named by the user; `+` adds one."""


@dataclass(frozen=True)
class Composed:
    """A checked configuration, its interpolations not yet resolved.

    Attributes:
        cfg: The configuration.
        name: The experiment it was composed from, empty without one.
        auto: The data set whose batch size is still to be found, None for none.
    """

    cfg: DictConfig
    name: str
    auto: str | None = None


def compose(overrides: Overrides) -> Composed:
    """Composes the configuration of a command line.

    Args:
        overrides: An argument of a `_target_` class may be set without `+` even if no file has it.

    Raises:
        UsageError: A key, group, option or argument is unknown; the message names the nearest.
    """
    _refuse_sweeps(overrides)
    try:
        return _composed(overrides)
    except RecursionError as error:
        raise UsageError("conf: expected settings, got endless nesting") from error


def _composed(overrides: Overrides) -> Composed:
    cfg = _chosen(overrides.choices)
    if hidden := groups.hidden_files(groups.extra_folders()):
        more = f" and {counted(len(hidden) - 1, 'more file')}" if len(hidden) > 1 else ""
        logger.warning(
            "%s%s: ignored, as densekit has a file of that name; rename yours",
            hidden[0],
            more,
        )
    name = _pop_name(cfg)
    _check_packages(_plain(cfg))
    trust = overrides.trust
    for word in overrides.values:
        _apply(cfg, word, trust)
    _check_top_level(cfg)
    check_nodes(_plain(cfg), trust)
    return Composed(cfg, name)


def apply_values(cfg: DictConfig, overrides: Overrides, trust: Sequence[str] = ()) -> None:
    """Checks value overrides and applies them to a configuration that was read from a file.

    A mapping with a `_target_` replaces the old value, any other is merged into it.

    Raises:
        UsageError: A key or argument is unknown; the message names the nearest.
    """
    _refuse_sweeps(overrides)
    for word in overrides:
        _apply(cfg, word, trust)
    check_nodes(_plain(cfg), trust)


def for_hydra(overrides: Overrides) -> list[str]:
    """The arguments of a multirun in the form that a Hydra sweeper reads.

    Paths and names are quoted, and a class argument that no file mentions gets the prefix `++`.

    Raises:
        UsageError: The first job would not compose.
    """
    first = first_job(overrides)
    compose(first)
    cfg = _chosen(first.choices)
    args = []
    for word in overrides:
        is_value = word.override.type is OverrideType.CHANGE and not word.is_choice
        line = str(word.override.input_line)
        args.append(f"++{line}" if is_value and not _find(cfg, word.key)[2] else line)
    return args


def _chosen(choices: Overrides) -> DictConfig:
    """Lets Hydra compose the files of the chosen options; the result includes its own node."""
    for word in choices:
        if not word.is_removal:
            line = str(word.override.input_line)
            groups.check_choice(word.key, word.override.value(), line)
    lines = [str(word.override.input_line) for word in choices]
    with initialize_config_dir(str(groups.own_conf()), version_base="1.3"):
        try:
            return hydra_compose(
                "config",
                overrides=[groups.searchpath(groups.extra_folders()), *lines],
                return_hydra_config=True,
            )
        except MissingConfigException as error:
            reason = groups.refused(str(error.missing_cfg_file))
            raise UsageError(reason or str(error)) from error
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UsageError(str(error)) from error
        except yaml.YAMLError as error:
            message = " ".join(str(error).split())  # it names file, line and column
            raise UsageError(f"conf: expected files that YAML can read, got {message}") from error


def _pop_name(cfg: DictConfig) -> str:
    """Removes Hydra's own node and returns the name of the experiment."""
    choice = cfg.hydra.runtime.choices.get("experiment") or ""
    with open_dict(cfg):
        del cfg["hydra"]
    return str(choice).replace("/", "_")


def _refuse_sweeps(overrides: Overrides) -> None:
    for word in overrides:
        if word.is_sweep:
            key = word.key
            raise UsageError(
                f"{key}: expected one value, got {word.written}; add -m to run one job for"
                f" each, or write {key}=[a,b] for a list"
            )


def _apply(cfg: DictConfig, word: Word, trust: Sequence[str]) -> None:
    """Checks one key=value against a configuration and applies it there."""
    key, package = word.key, word.override.package
    if package is not None:
        raise UsageError(f"{key}@{package}: expected a group before the @, got {key}")
    owner, name, found = _find(cfg, key)
    if word.is_removal:
        if not found:
            _refuse(cfg, owner, name)
        with open_dict(cfg):
            del (OmegaConf.select(cfg, owner) if owner else cfg)[name]  # pop() would resolve it
        return
    if not found:
        _check_new(cfg, owner, name, word.override.type is not OverrideType.CHANGE, trust)
    value = _value(cfg, owner, name, word)
    merged = isinstance(value, dict) and "_target_" not in value
    try:
        OmegaConf.update(cfg, key, value, merge=merged, force_add=True)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        shown = f"{word.written} ({str(error).splitlines()[0]})"
        raise UsageError(f"{key}: expected a value that YAML can hold, got {shown}") from error


def _value(cfg: DictConfig, owner: str, name: str, word: Word) -> Any:
    """The value of an override; taken literally where the class accepts nothing but text."""
    node = OmegaConf.select(cfg, owner) if owner else cfg
    is_class = isinstance(node, DictConfig) and isinstance(node.get("_target_"), str)
    declared = read(node) if is_class else None
    value = word.override.value()
    is_name = declared is not None and is_text(declared.types.get(name, ""))
    return as_text(word.written, value) if is_name else value


def _find(cfg: DictConfig, key: str) -> tuple[str, str, bool]:
    """The deepest mapping on the path of a key, the next name, and whether the key exists."""
    node: Any = cfg
    parts = key.split(".")
    for index, part in enumerate(parts):
        owner = ".".join(parts[:index])
        if isinstance(node, ListConfig):
            raise UsageError(
                f"{key}: expected the key of a whole list, got an index; a list is replaced as"
                f" a whole: {owner}=[...]"
            )
        if not isinstance(node, DictConfig):
            raise UsageError(f"{key}: expected {owner} to be a mapping, got {node}")
        child = None if node._is_none() else node._get_node(part, validate_access=False)
        if child is None:
            return owner, part, False
        node = child
    return ".".join(parts[:-1]), parts[-1], True


def _check_new(cfg: DictConfig, owner: str, name: str, added: bool, trust: Sequence[str]) -> None:
    node = OmegaConf.select(cfg, owner) if owner else cfg
    if isinstance(node, DictConfig) and node.get("_target_") is not None:
        check_arguments(node, [name], owner, trust)
    elif not (added and owner.partition(".")[0] in OPEN) and name != "_target_":
        _refuse(cfg, owner, name)


def _refuse(cfg: DictConfig, owner: str, name: str) -> None:
    node = OmegaConf.select(cfg, owner) if owner else cfg
    keys = {str(key) for key in node} if isinstance(node, DictConfig) else set()
    if not owner:
        keys = (keys | set(groups.groups())) - {"hydra"}
    path = f"{owner}.{name}" if owner else name
    hint = f" (a new entry is added by +{path})" if owner.partition(".")[0] in OPEN else ""
    raise UsageError(f"{unknown(path, name, sorted(keys))}{hint}")


def _check_packages(cfg: Mapping[str, Any]) -> None:
    """Refuses files without their first line, whose contents Hydra puts below their group."""
    accepted = groups.top_level_keys()
    misplaced = {key: key for key in cfg if key not in accepted and groups.is_group(key)}
    for name, node in (cfg["data"] or {}).items():
        is_built = isinstance(node, dict) and "_target_" in node
        if name == "_target_" or (name in accepted and not is_built):
            misplaced[f"data.{name}"] = "data"
    for key, group in misplaced.items():
        package = groups.PACKAGES.get(group, "_global_")
        raise UsageError(
            f"conf/{group}: expected a file that begins with '# @package {package}', got one"
            f" without that line, which sets {key}"
        )


def _check_top_level(cfg: DictConfig) -> None:
    """Refuses top-level keys that nothing reads; only a file can introduce one."""
    accepted = groups.top_level_keys()
    for name in sorted(accepted - {str(key) for key in cfg}):
        raise UsageError(f"{name}: expected a value, got none; it can be set but not removed")
    for key in cfg:
        if key not in accepted:
            message = unknown("configuration", key, sorted(accepted))
            raise UsageError(f"{message} (put values for interpolation under `vars`)")


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
