"""The words of a command line: key=value, with paths that may hold any character."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from densekit.app.errors import UsageError
from densekit.build import nearest

PATH_NAMES = frozenset(
    {
        "annotations",
        "artifact",
        "checkpoint",
        "folder",
        "gallery",
        "images",
        "output",
        "path",
        "resume",
        "results",
    }
    | {"root", "save_dir", "source"}
)
"""A key with one of these last names holds a path, as do `backbone.weights` and all under `paths`.

`weights` of anything else are numbers.
"""


def is_path_key(key: str) -> bool:
    """Whether the value of a key is a path: `checkpoint`, `paths.data`, `data.bccd.train.root`."""
    parts = key.lstrip("+~").split(".")
    if parts[0] == "vars":  # may be anything, whatever the user called it
        return False
    of_weights = parts[-2:] == ["backbone", "weights"]
    return parts[-1] in PATH_NAMES or of_weights or (len(parts) > 1 and parts[0] == "paths")


def quote_path(argument: str) -> str:
    """Puts the value of a path key in quotes, because Hydra's grammar refuses `= ( [ ~ # & '`.

    `null`, values that are quoted already and every other key stay as they are; `${...}` still
    interpolates.
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    key, equals, value = argument.partition("=")
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    if not equals or not is_path_key(key) or quoted or value == "null":
        return argument
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def expand(arguments: Sequence[str]) -> list[list[str]]:
    """Every combination of a sweep: `lr=.1,.2 seed=range(3)` are six lists of overrides."""
    choices = [
        [f"{override.get_key_element()}={text}" for text in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line]
        for override in parse(arguments)
    ]
    return [list(job) for job in itertools.product(*choices)]


def parse(arguments: Sequence[str]) -> list[Any]:
    """Parses arguments with Hydra's grammar, after quoting paths.

    Raises:
        UsageError: An argument is not of the form key=value.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    parsed = []
    for argument in arguments:
        try:
            parsed.append(parser.parse_override(quote_path(argument)))
        except HydraException as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"{argument!r} is no key=value: {reason}") from error
    return parsed


def split_options(
    arguments: Iterable[str], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Takes a command's own options out of its arguments.

    Args:
        arguments: Words of the command line.
        defaults: The options and their values where they are not given.

    Returns:
        The options with their values, and the words that are none of them. A path is taken letter
        by letter; other values are read as YAML.
    """
    options, rest = dict(defaults), []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if key in defaults and equals:
            options[key] = _value(key, value)
        else:
            rest.append(argument)
    return options, rest


def refuse_rest(command: str, rest: Sequence[str], accepted: Iterable[str]) -> None:
    """Refuses words that a command without a configuration does not know."""
    for argument in rest:
        key, equals, _ = argument.partition("=")
        if not equals:
            raise UsageError(f"densekit {command}: {argument!r} is no key=value")
        raise UsageError(f"densekit {command}: no option {key!r}. {nearest(key, accepted)}")


def existing(command: str, key: str, value: Any) -> Path:
    """The path of an option that has to be there."""
    if not value:
        raise UsageError(f"densekit {command}: {key}=PATH is missing")
    path = Path(str(value)).expanduser()
    if not path.exists():
        raise UsageError(f"densekit {command}: {key}={value}: no such file or folder")
    return path


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
    """The value of an option that is a number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= at_least:
        raise UsageError(
            f"densekit {command}: {key}={value}: accepted is a number of at least {at_least:g}"
        )
    return value


def device_name(command: str, value: Any) -> str:
    """The value of the option `device`; `auto` is the first GPU, or the CPU without one."""
    import torch

    found = torch.cuda.is_available()
    if value == "auto":
        return "cuda" if found else "cpu"
    try:
        device = torch.device(str(value))
    except RuntimeError as error:
        raise UsageError(
            f"densekit {command}: device={value}: accepted are auto, cpu, cuda, cuda:1, mps"
        ) from error
    count = torch.cuda.device_count() if found else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"densekit {command}: device={value}: this machine has {count} CUDA GPUs")
    return str(value)


def _value(key: str, text: str) -> Any:
    if is_path_key(key):
        quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
        plain = text[1:-1] if quoted else text
        return None if text == "null" else plain
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{key}={text}: cannot be read: {error}") from error
