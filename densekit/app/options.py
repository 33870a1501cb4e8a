"""The options of a command that has no configuration of its own, and what their values name."""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from densekit._names import unknown
from densekit.app.config.overrides import holds_names, is_path_key, split_commas, unquote
from densekit.app.errors import UsageError

logger = logging.getLogger(__name__)


def split_options(
    arguments: Iterable[str], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Takes a command's own options out of its arguments.

    Args:
        arguments: Words of the command line.
        defaults: The options and their values where they are not given.

    Returns:
        The options with their values, and the words that are none of them. Paths, names and values
        whose default is text are taken letter by letter; others are read as YAML.
    """
    options, rest = dict(defaults), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in defaults and equals:
            options[key] = _value(key, value, defaults[key])
        else:
            rest.append(argument)
    return options, rest


def refuse_rest(command: str, rest: Sequence[str], accepted: Iterable[str]) -> None:
    """Refuses words that a command without a configuration does not know."""
    for argument in rest:
        key, equals, _ = argument.partition("=")
        if not equals:
            raise UsageError(f"densekit {command}: {argument!r} is no key=value")
        raise UsageError(unknown(f"densekit {command}", key, sorted(accepted)))


def existing(command: str, key: str, value: Any) -> Path:
    """The path of an option that has to be there."""
    if not value:
        raise UsageError(f"densekit {command}: {key}=PATH is missing")
    path = Path(str(value)).expanduser()
    if not path.exists():
        raise UsageError(f"densekit {command}: {key}={value}: no such file or folder")
    return path


def checkpoint_file(command: str, value: Any) -> Path:
    """The file of the option `checkpoint`; of a run folder its best one, which is named.

    Raises:
        UsageError: There is no such file or folder, or no checkpoint in the folder.
    """
    path = existing(command, "checkpoint", value)
    if path.is_file():
        return path
    from densekit.training import best_checkpoint

    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if not any(folder.glob("*.ckpt")):
        raise UsageError(
            f"densekit {command}: checkpoint={value}: expected a file or a run folder with"
            " checkpoints/*.ckpt, got a folder without"
        )
    found: Path = best_checkpoint(folder)
    logger.info("checkpoint: %s", found)
    return found


def output_folder(command: str, value: Any) -> Path:
    """The folder of the option `output`; it is made."""
    if not value:
        raise UsageError(f"densekit {command}: output=DIR is missing")
    folder = Path(str(value)).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"densekit {command}: output={value}: {error.strerror}") from error
    return folder


def trusted_packages(value: Any) -> list[str]:
    """The packages of the option `trust`; they become importable from the working folder."""
    names = [str(name) for name in (value if isinstance(value, list) else [value] if value else [])]
    if names and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return names


def with_trust(trust: Sequence[str]) -> str:
    """The word that a command needs for what was built with `trust`; empty where it was not."""
    return f" 'trust=[{','.join(trust)}]'" if trust else ""


def number(command: str, key: str, value: Any, *, at_least: float) -> float:
    """The value of an option that is a number; YAML reads `1e-2` as text."""
    try:
        found = value if isinstance(value, int | float) else float(str(value))
    except ValueError:
        found = math.nan
    if isinstance(value, bool) or not found >= at_least:
        raise UsageError(
            f"densekit {command}: {key}: expected a number of at least {at_least:g}, got {value}"
        )
    return found


def device_name(command: str, value: Any) -> str:
    """The value of the option `device`; `auto` is the first GPU, or the CPU without one."""
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", str(value)):
        raise UsageError(
            f"densekit {command}: device: expected auto, cpu, cuda, cuda:1 or mps, got {value}"
        )
    import torch

    found = torch.cuda.is_available()
    if value == "auto":
        return "cuda" if found else "cpu"
    device = torch.device(str(value))
    count = torch.cuda.device_count() if found else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"densekit {command}: device={value}: this machine has {count} CUDA GPUs")
    return str(value)


def _value(key: str, text: str, default: Any) -> Any:
    """The value of an option: letter by letter, or as YAML where it is a number or a flag."""
    names = holds_names(key, text) or key in ("heads", "split") or isinstance(default, str)
    if names and text.startswith("[") and text.endswith("]"):
        return [unquote(name) for name in split_commas(text[1:-1]) if name]
    if names or is_path_key(key):
        return None if text == "null" else unquote(text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{key}: expected a value that YAML can read, got {text}") from error
