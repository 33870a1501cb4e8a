"""Composes a configuration in process and checks it before anything is built."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from densekit.app import groups
from densekit.app.errors import UsageError
from densekit.app.overrides import parse, trusted_packages
from densekit.app.targets import check_arguments, check_nodes
from densekit.build import nearest

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
    base = _compose([str(override.input_line) for override in choices])
    trust = trusted(arguments)
    lines = []
    for override in overrides:
        line = str(override.input_line)
        lines.append(line if _is_choice(override) else _check_value(base, override, trust))
    cfg = _compose(lines)
    for file in groups.hidden_files(groups.extra_folders()):
        logger.warning("%s is not used: densekit has a file of that name; rename yours", file)
    name = _pop_name(cfg)
    known = _compose([])
    _check_top_level(cfg, known)
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
        _check_value(cfg, override, trust)
    check_nodes(_plain(cfg), trust)


def trusted(arguments: Sequence[str]) -> list[str]:
    """What `trust=` says; such packages become importable from the working folder."""
    trust: list[str] = []
    for override in parse(arguments):
        if override.key_or_group == "trust":
            trust = trusted_packages(override.value())
    return trust


def is_choice(argument: str) -> bool:
    """Whether an argument chooses an option of a group (`data=bccd`)."""
    return _is_choice(parse([argument])[0])


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


def _pop_name(cfg: DictConfig) -> str:
    """Takes Hydra's own node out and returns the experiment's name."""
    choice = cfg.hydra.runtime.choices.get("experiment") or ""
    with open_dict(cfg):
        del cfg["hydra"]
    return str(choice).replace("/", "_")


def _refuse_sweeps(overrides: Sequence[Override]) -> None:
    for override in overrides:
        if override.is_sweep_override():
            raise UsageError(
                f"{override.input_line}: several values. Add -m to run one job for each, or "
                f"write key=[a,b] for a list"
            )


def _is_choice(override: Override) -> bool:
    return groups.is_group(override.key_or_group)


def _check_choice(override: Override) -> None:
    if override.type is not OverrideType.DEL:
        group, line = override.key_or_group, str(override.input_line)
        groups.check_choice(group, override.value(), line)


def _check_value(cfg: DictConfig, override: Override, trust: Sequence[str]) -> str:
    """Checks one key=value against the configuration, applies it there, and returns the override.

    What comes back is the override for Hydra: a real argument that no file mentions gets `++`.
    """
    key, line = override.key_or_group, str(override.input_line)
    owner, name, found = _find(cfg, key)
    if override.type is OverrideType.DEL:
        if not found:
            _refuse(cfg, owner, name)
        with open_dict(cfg):
            (OmegaConf.select(cfg, owner) if owner else cfg).pop(name)
        return line
    if not found:
        added = override.type is not OverrideType.CHANGE
        _check_new(cfg, owner, name, added, trust)
        if not added:
            line = f"++{line}"
    value = override.value()
    built = isinstance(value, dict) and "_target_" in value
    OmegaConf.update(cfg, key, value, merge=not built, force_add=True)
    return line


def _find(cfg: DictConfig, key: str) -> tuple[str, str, bool]:
    """The deepest mapping on the way to a key, the next name, and whether the key is there."""
    node: Any = cfg
    parts = key.split(".")
    for index, part in enumerate(parts):
        owner = ".".join(parts[:index])
        if not isinstance(node, DictConfig):
            raise UsageError(f"{key}: {owner} holds {node!r} and has no keys")
        if node._is_none() or part not in node:
            return owner, part, False
        node = node._get_node(part)
        if not isinstance(node, DictConfig) and index == len(parts) - 1:
            break
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
    hint = f" A new entry is added by +{path}." if owner.partition(".")[0] in OPEN else ""
    raise UsageError(f"no key {path!r} in the configuration. {nearest(name, keys)}{hint}")


def _check_top_level(cfg: DictConfig, known: DictConfig) -> None:
    """Refuses a key that nothing reads, which only a file can have brought in."""
    accepted = {str(key) for key in known} - {"hydra"}
    for key in cfg:
        if key not in accepted:
            raise UsageError(
                f"key {str(key)!r} of the composed configuration is read by nothing. "
                f"{nearest(str(key), accepted)} Values for interpolation go under `vars`."
            )


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}
