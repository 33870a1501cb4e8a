"""Formats the text of `--help` from the table of each command."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from densekit.app.options.table import Command

WIDTH = 100
INDENT = 24
"""Column in which the help of an option begins."""

OVERVIEW = """usage: densekit COMMAND [key=value ...]

Dense prediction with one backbone and any heads: configured by Hydra, trained by Lightning.

commands:
{commands}
  {lists}
                list what is available, including plug-ins and ./conf

  densekit COMMAND --help    options and examples
  densekit --version

first steps:
  densekit train experiment=quickstart
  densekit eval checkpoint=runs/quickstart/TIMESTAMP
  densekit predict checkpoint=runs/quickstart/TIMESTAMP source=FOLDER output=DIR
"""


def overview(commands: Mapping[str, str], lists: Iterable[str]) -> str:
    """The text of `densekit --help`.

    Args:
        commands: Summaries of the commands by name.
        lists: Names of the commands that list a group.
    """
    rows = [f"  {name:<14}{summary}" for name, summary in commands.items()]
    return OVERVIEW.format(commands="\n".join(rows), lists=", ".join(lists))


def help_of(command: Command) -> str:
    """The text of `densekit COMMAND --help`."""
    usages = [f"densekit {command.name} {line}".rstrip() for line in command.usage.split("\n")]
    parts = ["usage: " + "\n       ".join(usages), command.about.strip()]
    if command.examples:
        parts.append(_section("examples", [f"  densekit {line}" for line in command.examples]))
    rows = [*(option.row for option in command.options), *command.settings]
    if rows:
        parts.append(_section("options", [_row(*row) for row in rows]))
    if groups := command.groups():
        parts.append(_section("groups", [_row(name, _files(name)) for name in groups]))
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([f"{title}:", *lines])


def _row(shown: str, about: str) -> str:
    """An option and its help beside it, or below it if the option is too long."""
    margin = " " * INDENT
    lines = textwrap.wrap(
        about, WIDTH, initial_indent=margin, subsequent_indent=margin, **_WHOLE_WORDS
    )
    if len(shown) > INDENT - 4:
        return "\n".join([*_broken(shown), *lines])
    return "\n".join([f"  {shown:<{INDENT - 2}}{lines[0].lstrip()}", *lines[1:]])


def _broken(shown: str) -> list[str]:
    """An option over as many lines as its values need; a line ends with the bar between two."""
    words = shown.replace("|", "| ")
    wrapped = textwrap.wrap(
        words, WIDTH, initial_indent="  ", subsequent_indent="    ", **_WHOLE_WORDS
    )
    return [line.replace("| ", "|") for line in wrapped]


_WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}


def _files(group: str) -> str:
    from densekit.app.config import groups

    return ", ".join(groups.options(group))
