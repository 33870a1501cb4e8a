"""The options of a command in one table, from which arguments are parsed and help is printed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from densekit._names import unknown
from densekit.app.config import groups
from densekit.app.config.overrides import unquote
from densekit.app.config.quoting import split_commas
from densekit.app.errors import UsageError


@dataclass(frozen=True)
class Kind:
    """The values that an option takes.

    Attributes:
        shown: Placeholder of a value in the help: `PATH`, `NUMBER`, `npz|parquet`.
        expected: The accepted values in an error message: "a number of at least 0".
        read: Parses the text of the command line; ValueError for text that is not accepted.
    """

    shown: str
    expected: str
    read: Callable[[str], Any]


@dataclass(frozen=True)
class Option:
    """An option of a command, given as `name=value`.

    Attributes:
        name: Key of the option.
        kind: Accepted values.
        default: Value if the option is not given. `null` on the command line means a default that
            is None or empty.
        help: What the option does; the default is appended unless it is None or empty.
        required: Whether the command refuses to start without it.
    """

    name: str
    kind: Kind
    default: Any
    help: str
    required: bool = False

    @property
    def row(self) -> tuple[str, str]:
        """The columns of its line in the help."""
        about = self.help
        if self.required:
            about += " (required)"
        elif self.default not in (None, ()):
            about += f" (default: {_written(self.default)})"
        return f"{self.name}={self.kind.shown}", about

    def read(self, text: str) -> Any:
        """Parses the text of a value.

        Raises:
            UsageError: The option does not accept it.
        """
        if text == "null" and not self.default:
            return self.default
        try:
            return self.kind.read(text)
        except ValueError as error:
            raise UsageError(f"{self.name}: expected {self.kind.expected}, got {text}") from error


@dataclass(frozen=True)
class Command:
    """What a command accepts and what its help says.

    Attributes:
        name: Name of the command, after `densekit`.
        usage: Arguments after the name, one line per form of the command.
        about: What the command does.
        examples: Command lines without `densekit`.
        options: All options `name=value`.
        words: Names of the positional arguments; those in brackets, the last ones, may be left out,
            and `[NAME ...]` alone stands for any number of them.
        settings: Keys of the configuration that may also be set, as shown in the help, and what
            each does.
        overrides: Whether other arguments are overrides of the configuration.
        groups: The configuration groups whose files the help lists.
    """

    name: str
    usage: str
    about: str
    examples: Sequence[str] = ()
    options: Sequence[Option] = ()
    words: Sequence[str] = ()
    settings: Sequence[tuple[str, str]] = ()
    overrides: bool = False
    groups: Callable[[], Iterable[str]] = tuple


def text(shown: str, expected: str = "text") -> Kind:
    """Literal text; quotes around all of it are removed."""
    return Kind(shown, expected, unquote)


def names(shown: str = "NAME") -> Kind:
    """One name or a list of names, `[a,b]`; the value is a list of strings."""
    return Kind(f"[{shown},...]", f"{shown} or [{shown},...]", _listed)


def choice(*accepted: str | int) -> Kind:
    """One of several words or numbers."""
    values = {str(value): value for value in accepted}

    def read(text: str) -> str | int:
        if (word := unquote(text)) not in values:
            raise ValueError(word)
        return values[word]

    return Kind("|".join(values), f"one of {', '.join(values)}", read)


def choices(*accepted: str) -> Kind:
    """One of several words or a list of them; the value is a list."""
    one = choice(*accepted)
    return Kind(
        f"[{one.shown},...]",
        f"{one.expected}, or a list of them",
        lambda text: [one.read(word) for word in _listed(text)],
    )


def number(at_least: float = -math.inf) -> Kind:
    """A number, `0.5` or `1e-2`."""

    def read(text: str) -> float:
        if not (value := float(text)) >= at_least:
            raise ValueError(text)
        return value

    bound = "" if at_least == -math.inf else f" of at least {at_least:g}"
    return Kind("NUMBER", f"a number{bound}", read)


def whole(at_least: int) -> Kind:
    """A whole number."""

    def read(text: str) -> int:
        value = float(text)
        if not value.is_integer() or value < at_least:
            raise ValueError(text)
        return int(value)

    return Kind("N", f"a whole number of at least {at_least}", read)


def flag() -> Kind:
    """True or false."""
    one = choice("true", "false")
    return Kind(one.shown, "true or false", lambda text: bool(one.read(text.lower()) == "true"))


def sides(*, count: int | None = None, at_least: int = 1) -> Kind:
    """The sides of an image or volume, `[256,448]`.

    Args:
        count: Number of sides; any number by default.
        at_least: The smallest side.
    """
    one = whole(at_least)

    def read(text: str) -> list[int]:
        found = [one.read(side) for side in _listed(text)]
        if not text.startswith("[") or len(found) != (count or len(found) or 1):
            raise ValueError(text)
        return found

    shown = "[HEIGHT,WIDTH]"
    return Kind(shown, f"{shown}, each {one.expected}", read)


def split_options(
    arguments: Iterable[str], options: Iterable[Option]
) -> tuple[dict[str, Any], list[str]]:
    """Separates the options of a command line from its other arguments.

    Returns:
        The value of every option by name, and the other arguments.

    Raises:
        UsageError: An option does not accept its value.
    """
    known = {option.name: option for option in options}
    values, rest = {name: option.default for name, option in known.items()}, []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if equals and key in known:
            values[key] = known[key].read(value)
        else:
            rest.append(argument)
    return values, rest


def parse_command(command: Command, arguments: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Parses the arguments of a command.

    Returns:
        The value of every option by name, and the other arguments: one per entry of
        `command.words`, or overrides of the configuration.

    Raises:
        UsageError: An argument is unknown, a value is not accepted, or an option is missing.
    """
    values, rest = split_options(arguments, command.options)
    if command.overrides:
        _check_overrides(command, rest)
    else:
        _check_arguments(command, rest)
    for option in command.options:
        if option.required and not values[option.name]:
            raise UsageError(
                f"{option.name}: expected {option.kind.expected}, got nothing;"
                f" densekit {command.name} {option.name}={option.kind.shown}"
            )
    return values, rest


def _check_overrides(command: Command, arguments: Sequence[str]) -> None:
    """Refuses a word that is neither an option nor at the top of the configuration."""
    keys = [key for shown, _ in command.settings if (key := _key(shown)).lower() != "key"]
    known = [*(option.name for option in command.options), *keys]
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not (equals and key.isidentifier()) or key in known or groups.is_group(key):
            continue
        accepted = groups.top_level_keys()
        if key not in accepted:
            names = dict.fromkeys([*known, *sorted(accepted)])
            raise UsageError(unknown(f"densekit {command.name}", key, names))


def _key(shown: str) -> str:
    """The first part of a key as the help shows it: `trainer` of `trainer.KEY=VALUE`."""
    return re.split("[.=]", shown)[0]


def _check_arguments(command: Command, arguments: Sequence[str]) -> None:
    if list(command.words) == ["[NAME ...]"]:
        if not any("=" in argument for argument in arguments):
            return
    elif _fits(command.words, arguments):
        return
    keys = [_key(shown) for shown, _ in command.settings]
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if equals:
            known = [*(option.name for option in command.options), *keys]
            raise UsageError(unknown(f"densekit {command.name}", key, known))
    expected = " ".join(command.words) or ("key=value" if command.options else "no arguments")
    raise UsageError(
        f"densekit {command.name}: expected {expected}, got {' '.join(arguments) or 'nothing'};"
        f" densekit {command.name} {command.usage}".rstrip("; ")
    )


def _fits(words: Sequence[str], arguments: Sequence[str]) -> bool:
    """Whether there is an argument for every word; those of optional words are no `key=value`."""
    required = [word for word in words if not word.startswith("[")]
    optional = arguments[len(required) :]  # the path of a required one may contain `=`
    is_key = [
        argument.partition("=")[0].isidentifier() and "=" in argument for argument in optional
    ]
    return len(required) <= len(arguments) <= len(words) and not any(is_key)


def _written(value: Any) -> str:
    """A default as it would be written on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _listed(text: str) -> list[str]:
    """The names of `[a,b]`, or the one name."""
    is_list = text.startswith("[") and text.endswith("]")
    return [unquote(name) for name in (split_commas(text[1:-1]) if is_list else [text]) if name]
