"""The parsed overrides of a command line: each key=value is parsed exactly once."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.config import groups
from densekit.app.config.quoting import (
    choices_of,
    is_path_key,
    is_quoted,
    quote,
    split_commas,
    split_paths,
)
from densekit.app.errors import UsageError

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override


@dataclass(frozen=True)
class Word:
    """One key=value of a command line.

    Attributes:
        text: As it was typed.
        override: As parsed by Hydra's grammar.
        is_choice: Whether it chooses options of a group, as `data=bccd` does;
            `optimizer={_target_: ...}` is a value.
    """

    text: str
    override: Override
    is_choice: bool

    @property
    def key(self) -> str:
        """The key or the group, without `+`, `~` and `@PACKAGE`."""
        return self.override.key_or_group

    @property
    def written(self) -> str:
        """The text of the value as passed to Hydra, after quoting."""
        return str(self.override.input_line).partition("=")[2]

    @property
    def is_sweep(self) -> bool:
        """Whether it expands to several jobs."""
        return self.override.is_sweep_override()

    @property
    def is_removal(self) -> bool:
        """Whether it removes something, as `~callbacks.curves` does."""
        return self.override.is_delete()


@dataclass(frozen=True)
class Overrides:
    """All key=value of a command line, in order."""

    words: tuple[Word, ...]

    def __iter__(self) -> Iterator[Word]:
        return iter(self.words)

    def __add__(self, other: Overrides) -> Overrides:
        return Overrides(self.words + other.words)

    def where(self, keep: Callable[[Word], bool]) -> Overrides:
        """The overrides for which a condition holds."""
        return Overrides(tuple(word for word in self.words if keep(word)))

    @property
    def choices(self) -> Overrides:
        """The overrides that choose options of groups."""
        return self.where(lambda word: word.is_choice)

    @property
    def values(self) -> Overrides:
        """The overrides that set or remove a value."""
        return self.where(lambda word: not word.is_choice)

    @property
    def texts(self) -> list[str]:
        """The overrides as they were typed."""
        return [word.text for word in self.words]

    @property
    def keys(self) -> set[str]:
        """All keys and groups."""
        return {word.key for word in self.words}

    @property
    def trust(self) -> list[str]:
        """The packages of `trust=`, which become importable from the working folder."""
        return trusted_packages(self.last("trust"))

    def last(self, key: str) -> Any:
        """The value of a key; None if it is not set, the last one if it is set twice."""
        found = [word for word in self.words if word.key == key and not word.is_removal]
        return found[-1].override.value() if found else None


def parse(arguments: Sequence[str], *, sweep: bool = False) -> Overrides:
    """Parses a command line with Hydra's grammar, after quoting paths and names.

    Args:
        arguments: Arguments of the form key=value.
        sweep: Whether a comma separates paths; otherwise it is part of a single path.

    Raises:
        UsageError: An argument is not of the form key=value.
    """
    return Overrides(tuple(_word(argument, sweep=sweep) for argument in arguments))


def _word(argument: str, *, sweep: bool = False) -> Word:
    override = _parsed(argument, quote(argument, sweep=sweep))
    of_group = groups.is_group(override.key_or_group)
    return Word(argument, override, of_group and not isinstance(override.value(), dict))


def _parsed(argument: str, word: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = argument.partition("=")
    if equals and "[" in key:
        name = key.partition("[")[0]
        raise UsageError(
            f"{key}: expected the key of a whole list, got an index; a list is replaced as a"
            f" whole: {name}=[...]"
        )
    if not equals and not key.startswith("~"):
        raise UsageError(f"{argument}: expected key=value, got no '='")
    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, ValueError, TypeError, RecursionError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UsageError(
            f"{key}: expected a value of Hydra's grammar, got {value} ({reason}); quote"
            f" any other text: \"{key}='...'\""
        ) from error


def expand(overrides: Overrides) -> list[Overrides]:
    """Expands a sweep into all combinations: `lr=.1,.2 seed=range(3)` gives six jobs.

    Raises:
        UsageError: An override does not list its values.
    """
    return [Overrides(job) for job in itertools.product(*map(_jobs, overrides))]


def first_job(overrides: Overrides) -> Overrides:
    """The first job of a sweep, with the lower end of each interval."""
    return Overrides(tuple(map(_first, overrides)))


def _first(word: Word) -> Word:
    if word.override.is_interval_sweep():
        interval: Any = word.override.value()
        return _word(f"{word.override.get_key_element()}={interval.start}")
    return _jobs(word)[0]


def _jobs(word: Word) -> list[Word]:
    """The overrides that one override of a multirun expands to, each as it would be typed."""
    if not word.is_sweep:
        return [word]
    key, _, value = word.text.partition("=")
    kind = word.override.value_type
    name = kind.name if kind is not None else ""
    if name == "INTERVAL_SWEEP":
        raise UsageError(
            f"{key}: expected a list of values, got {value}; an interval needs a sweeper,"
            " for example hydra/sweeper=optuna"
        )
    if name == "GLOB_CHOICE_SWEEP":
        pattern: Any = word.override.value()
        texts = pattern.filter(groups.options(word.key))
        if not texts:
            raise UsageError(f"{key}: expected a pattern of options of a group, got {value}")
    else:
        texts = _typed(key, value) or list(word.override.sweep_string_iterator())
    return [_word(f"{key}={text}") for text in texts]


def _typed(key: str, value: str) -> list[str] | None:
    """The values of `a,b` and `choice(a,b)` as typed; None for `range(3)` and others."""
    inner = choices_of(value)
    split = split_paths if is_path_key(key) else split_commas
    parts = split(value if inner is None else inner)
    return parts if inner is not None or len(parts) > 1 else None


def unquote(text: str) -> str:
    """A value without the quotes around it, if any."""
    return str(_word(f"checkpoint={text}").override.value()) if is_quoted(text) else text


def trusted_packages(value: Any) -> list[str]:
    """The packages of the option `trust`, which become importable from the working folder."""
    names = [str(name) for name in (value if isinstance(value, list) else [value] if value else [])]
    if names and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return names


def with_trust(trust: Sequence[str]) -> str:
    """The `trust=` argument that a further command needs; empty if no package is trusted."""
    return f" 'trust=[{','.join(trust)}]'" if trust else ""
