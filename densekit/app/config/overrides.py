"""The words of a command line: key=value, where paths and names are text letter by letter."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

from densekit.app.config import groups
from densekit.app.errors import UsageError

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
NAMES = frozenset({"keep_heads", "objective", "precision", "run_name", "trust"})
"""Keys whose values are names; the options of a group are names too, and `reset_head=[NAME]`."""

_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_PATH = re.compile(rf"\s*(?:{_QUOTED})\s*(?=,|$)|(?:\$\{{[^{{}}]*\}}|[^,])*")
_PLAIN_NAME = re.compile(r"[^\W\d][\w/.-]*", re.ASCII)
_NO_TEXT = ("true", "false", "null", "inf", "nan")
"""Words that Hydra does not read as text."""


def is_path_key(key: str) -> bool:
    """Whether the value of a key is a path: `checkpoint`, `paths.data`, `data.bccd.train.root`."""
    parts = key.lstrip("+~").split(".")
    if parts[0] == "vars":  # may be anything, whatever the user called it
        return False
    of_weights = parts[-2:] == ["backbone", "weights"]
    return parts[-1] in PATH_NAMES or of_weights or (len(parts) > 1 and parts[0] == "paths")


def holds_names(key: str, value: str) -> bool:
    """Whether the value of a key is a name, or a list of names: `run_name`, `trust`, `data`."""
    name = key.lstrip("+~").partition("@")[0]
    heads = name == "reset_head" and value.startswith("[")
    return heads or name in NAMES or groups.is_group(name)


def quote(argument: str, *, sweep: bool = False) -> str:
    """Puts the value of a path or a name in quotes where Hydra's grammar would not read it as text.

    Hydra refuses `= ( [ ~ # & '` in a path, and reads the name `2024_01_02` as a number. `null`,
    values that are quoted already and every other key stay as they are; `${...}` still
    interpolates.

    Args:
        argument: key=value.
        sweep: Whether a comma parts paths; it is a letter of the one path otherwise.
    """
    key, equals, value = argument.partition("=")
    if equals and is_path_key(key):
        paths = _paths(value) if sweep else [value]
        inner = _choices_of(value) if sweep else None
        if inner is not None:
            return f"{key}=choice({','.join(quote_text(path) for path in _paths(inner))})"
        return f"{key}={','.join(quote_text(path) for path in paths)}"
    if equals and holds_names(key, value):
        names = [quote_name(name) for name in split_commas(value)]
        return f"{key}=[{names[0]}]" if _is_one_of_list(key, value) else f"{key}={','.join(names)}"
    return argument


def _is_one_of_list(key: str, value: str) -> bool:
    """Whether `trust=my_head` means the list of that one name."""
    listed = key.lstrip("+") in ("trust", "keep_heads")
    return listed and value != "null" and len(split_commas(value)) == 1 and value[:1] not in "[$"


def quote_text(text: str) -> str:
    """A value as Hydra reads it letter by letter, if it is not `null` or in quotes already."""
    from hydra.core.override_parser.types import Quote, QuotedString

    quoted = re.fullmatch(_QUOTED, text.strip(), re.DOTALL)
    return text if quoted or text == "null" else QuotedString(text, Quote.single).with_quotes()


def quote_name(text: str) -> str:
    """A name, a list of names or a choice of them; `quote_text` where Hydra reads another kind."""
    if text.startswith("[") and text.endswith("]"):
        return f"[{','.join(quote_name(name) for name in split_commas(text[1:-1]))}]"
    if _PLAIN_NAME.fullmatch(text) and text.lower() not in _NO_TEXT:
        return text
    inner = _choices_of(text)
    if inner is not None:
        return f"choice({','.join(quote_name(name) for name in split_commas(inner))})"
    is_other = not text or text.startswith("{") or "(" in text or "${" in text
    return text if is_other else quote_text(text)


def unquote(text: str) -> str:
    """The letters of a value that may stand in quotes."""
    if not re.fullmatch(_QUOTED, text, re.DOTALL):
        return text
    return str(parse([f"checkpoint={text}"])[0].value())


def split_commas(text: str) -> list[str]:
    """Parts a value at its commas, but for those in quotes and brackets."""
    parts, depth = [""], 0
    for token in re.findall(rf"{_QUOTED}|.", text, re.DOTALL):
        depth += (token in "([{") - (token in ")]}")
        if token == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


def expand(arguments: Sequence[str]) -> list[list[str]]:
    """Every combination of a sweep: `lr=.1,.2 seed=range(3)` are six lists of overrides.

    Raises:
        UsageError: A word does not say which values there are.
    """
    return [list(job) for job in itertools.product(*map(_jobs, arguments))]


def parse(arguments: Sequence[str], *, sweep: bool = False) -> list[Any]:
    """Parses arguments with Hydra's grammar, after quoting paths and names.

    Args:
        arguments: key=value words.
        sweep: See `quote`.

    Raises:
        UsageError: An argument is not of the form key=value.
    """
    return [_parsed(argument, quote(argument, sweep=sweep)) for argument in arguments]


def _parsed(argument: str, word: str) -> Any:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = argument.partition("=")
    if equals and "[" in key:
        name = key.partition("[")[0]
        raise UsageError(
            f"{key}: expected the key of a whole list, got a place in it; a list is replaced as a"
            f" whole: {name}=[...]"
        )
    if not equals and not key.startswith("~"):
        raise UsageError(f"{argument}: expected key=value, got a word without '='")
    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, ValueError, TypeError, RecursionError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"{key}: expected a value of Hydra's grammar, got {value} ({reason}); text of any"
            f" letters stands in quotes: \"{key}='...'\""
        ) from error


def first_job(arguments: Sequence[str]) -> list[str]:
    """The words of the first job of a sweep; the lower end of an interval."""
    words = []
    for argument, override in zip(arguments, parse(arguments, sweep=True), strict=True):
        if override.is_interval_sweep():
            words.append(f"{override.get_key_element()}={override.value().start}")
        else:
            words.append(_jobs(argument)[0])
    return words


def _jobs(argument: str) -> list[str]:
    """The words that one word of a multirun stands for, each as it would be typed."""
    override = parse([argument], sweep=True)[0]
    if not override.is_sweep_override():
        return [argument]
    key, _, value = argument.partition("=")
    kind = override.value_type.name
    if kind == "INTERVAL_SWEEP":
        raise UsageError(
            f"{key}: expected values to run, got {value}; an interval is searched by a sweeper,"
            " for example hydra/sweeper=optuna"
        )
    if kind == "GLOB_CHOICE_SWEEP":
        texts = override.value().filter(groups.options(override.key_or_group))
        if not texts:
            raise UsageError(f"{key}: expected a pattern of options of a group, got {value}")
    else:
        texts = _typed(key, value) or list(override.sweep_string_iterator())
    return [f"{key}={text}" for text in texts]


def _typed(key: str, value: str) -> list[str] | None:
    """The values of `a,b` and `choice(a,b)` as they were typed; None for `range(3)` and others."""
    inner = _choices_of(value)
    split = _paths if is_path_key(key) else split_commas
    parts = split(value if inner is None else inner)
    return parts if inner is not None or len(parts) > 1 else None


def _choices_of(value: str) -> str | None:
    """What stands in `choice(...)`."""
    found = re.fullmatch(r"\s*choice\s*\((.*)\)\s*", value, re.DOTALL)
    return found[1] if found else None


def _paths(text: str) -> list[str]:
    """Parts paths at commas; a quote or bracket within one is a letter."""
    found, place = [], 0
    while place <= len(text):
        match = _PATH.match(text, place)
        assert match is not None  # it takes nothing, too
        found.append(match[0])
        place = match.end() + 1
    return found
