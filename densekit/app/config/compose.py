"""Composes a configuration in process and checks it before anything is built."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from densekit._names import counted, unknown
from densekit.app.config import groups
from densekit.app.config.overrides import first_job, parse, quote_name
from densekit.app.config.targets import check_arguments, check_nodes, read
from densekit.app.config.values import is_text
from densekit.app.errors import UsageError
from densekit.app.shared_options import trusted_packages

logger = logging.getLogger(__name__)

OPEN = ("callbacks", "data", "heads", "logger", "metrics", "vars")
"""Mappings whose entries are named by the user; `+` adds one."""


@dataclass(frozen=True)
class Composed:
    """A checked configuration, its interpolations not yet resolved.

    Attributes:
        cfg: The configuration.
        name: The experiment it was composed from, empty without one.
    """

    cfg: DictConfig
    name: str


def compose(arguments: Sequence[str]) -> Composed:
    """Composes the configuration of a command line.

    Args:
        arguments: Overrides in Hydra's grammar. A real argument of a `_target_` that stands in no
            file may be set without `+`; values of path keys may hold any character.

    Raises:
        UsageError: An unknown key, group, option or argument; the message names the nearest.
    """
    overrides = parse(arguments)
    _refuse_sweeps(overrides)
    choices = [override for override in overrides if _is_choice(override)]
    for override in choices:
        _check_choice(override)
    cfg = _compose([str(override.input_line) for override in choices])
    if hidden := groups.hidden_files(groups.extra_folders()):
        more = f" and {counted(len(hidden) - 1, 'more file')}" if len(hidden) > 1 else ""
        logger.warning(
            "%s%s: not used, densekit has a file of that name; rename yours", hidden[0], more
        )
    name = _pop_name(cfg)
    trust = trusted(arguments)
    for override in overrides:
        if not _is_choice(override):
            _apply(cfg, override, trust)
    _check_top_level(cfg, _compose([]))
    check_nodes(_plain(cfg), trust)
    return Composed(cfg, name)


def apply_values(cfg: DictConfig, arguments: Sequence[str], trust: Sequence[str] = ()) -> None:
    """Checks value overrides and applies them to a configuration that came from a file.

    A mapping with a `_target_` stands for what was there, others are merged into it.

    Raises:
        UsageError: An unknown key or argument; the message names the nearest.
    """
    overrides = parse(arguments)
    _refuse_sweeps(overrides)
    for override in overrides:
        _apply(cfg, override, trust)
    check_nodes(_plain(cfg), trust)


def trusted(arguments: Sequence[str]) -> list[str]:
    """What `trust=` says; such packages become importable from the working folder."""
    trust: list[str] = []
    for override in parse(arguments):
        if override.key_or_group == "trust":
            trust = trusted_packages(override.value())
    return trust


def for_hydra(arguments: Sequence[str]) -> list[str]:
    """The words of a multirun as a sweeper of Hydra's reads them.

    Paths and names are quoted, and `++` stands before an argument of a class that no file mentions.

    Raises:
        UsageError: The first job would not compose.
    """
    first = first_job(arguments)
    compose(first)
    cfg = compose([word for word in first if is_choice(word)]).cfg
    words = []
    for override in parse(arguments, sweep=True):
        is_value = override.type is OverrideType.CHANGE and not _is_choice(override)
        is_new = is_value and not _find(cfg, override.key_or_group)[2]
        words.append(f"++{override.input_line}" if is_new else str(override.input_line))
    return words


def is_choice(argument: str) -> bool:
    """Whether an argument chooses an option of a group (`data=bccd`)."""
    return _is_choice(parse([argument], sweep=True)[0])


def _compose(lines: list[str]) -> DictConfig:
    folders = groups.extra_folders()
    with initialize_config_dir(str(groups.own_conf()), version_base="1.3"):
        try:
            return hydra_compose(
                "config",
                overrides=[groups.searchpath(folders), *lines],
                return_hydra_config=True,
            )
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UsageError(str(error)) from error
        except yaml.YAMLError as error:
            said = " ".join(str(error).split())  # it names file, line and column
            raise UsageError(f"conf: expected files that YAML can read, got {said}") from error


def _pop_name(cfg: DictConfig) -> str:
    """Takes Hydra's own node out and returns the experiment's name."""
    choice = cfg.hydra.runtime.choices.get("experiment") or ""
    with open_dict(cfg):
        del cfg["hydra"]
    return str(choice).replace("/", "_")


def _refuse_sweeps(overrides: Sequence[Override]) -> None:
    for override in overrides:
        if override.is_sweep_override():
            key = override.key_or_group
            raise UsageError(
                f"{key}: expected one value, got {_written(override)}; add -m to run one job for"
                f" each, or write {key}=[a,b] for a list"
            )


def _written(override: Override) -> str:
    return str(override.input_line).partition("=")[2]


def _is_choice(override: Override) -> bool:
    """Whether an override names options of a group; `optimizer={_target_: ...}` is a value."""
    return groups.is_group(override.key_or_group) and not isinstance(override.value(), dict)


def _check_choice(override: Override) -> None:
    if override.type is not OverrideType.DEL:
        group, line = override.key_or_group, str(override.input_line)
        groups.check_choice(group, override.value(), line)


def _apply(cfg: DictConfig, override: Override, trust: Sequence[str]) -> None:
    """Checks one key=value against a configuration and applies it there."""
    key = override.key_or_group
    if override.package is not None:
        raise UsageError(f"{key}@{override.package}: expected a group before the @, got {key}")
    owner, name, found = _find(cfg, key)
    if override.type is OverrideType.DEL:
        if not found:
            _refuse(cfg, owner, name)
        with open_dict(cfg):
            (OmegaConf.select(cfg, owner) if owner else cfg).pop(name)
        return
    if not found:
        _check_new(cfg, owner, name, override.type is not OverrideType.CHANGE, trust)
    value = _value(cfg, owner, name, override)
    built = isinstance(value, dict) and "_target_" in value
    try:
        OmegaConf.update(cfg, key, value, merge=not built, force_add=True)
    except (OmegaConfBaseException, ValueError, TypeError) as error:
        shown = f"{_written(override)} ({str(error).splitlines()[0]})"
        raise UsageError(f"{key}: expected a value that YAML can hold, got {shown}") from error


def _value(cfg: DictConfig, owner: str, name: str, override: Override) -> Any:
    """What an override sets; text letter by letter where the class takes text and nothing else."""
    node = OmegaConf.select(cfg, owner) if owner else cfg
    is_class = isinstance(node, DictConfig) and isinstance(node.get("_target_"), str)
    said = read(node) if is_class else None
    if said is None or not is_text(said.types.get(name, "")):
        return override.value()
    return parse([f"{name}={quote_name(_written(override))}"])[0].value()


def _find(cfg: DictConfig, key: str) -> tuple[str, str, bool]:
    """The deepest mapping on the way to a key, the next name, and whether the key is there."""
    node: Any = cfg
    parts = key.split(".")
    for index, part in enumerate(parts):
        owner = ".".join(parts[:index])
        if isinstance(node, ListConfig):
            raise UsageError(
                f"{key}: expected the key of a whole list, got a place in it; a list is replaced as"
                f" a whole: {owner}=[...]"
            )
        if not isinstance(node, DictConfig):
            raise UsageError(f"{key}: {owner} holds {node} and has no keys")
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


def _check_top_level(cfg: DictConfig, known: DictConfig) -> None:
    """Refuses a key that nothing reads, which only a file can have brought in."""
    accepted = {str(key) for key in known} - {"hydra"}
    for name in sorted(accepted - {str(key) for key in cfg}):
        raise UsageError(f"{name}: expected a value, got none; it can be set but not be removed")
    for key in cfg:
        if key not in accepted:
            said = unknown("configuration", key, sorted(accepted))
            raise UsageError(f"{said} (values for interpolation go under `vars`)")


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
