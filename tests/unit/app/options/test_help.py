"""`--help` of every command: its options with their defaults, and examples that it accepts."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from densekit.app.commands import COMMANDS, LISTS, listing
from densekit.app.commands.eval import FILES_FORM
from densekit.app.config import groups
from densekit.app.errors import UsageError
from densekit.app.options.help import WIDTH, help_of
from densekit.app.options.table import (
    Command,
    Option,
    choices,
    flag,
    names,
    number,
    parse_command,
    text,
)

PROJECT = Path(__file__).resolve().parents[4]


def table(name: str) -> Command:
    """The table of a command."""
    module = importlib.import_module(f"densekit.app.commands.{name.replace('-', '_')}")
    command: Command = module.COMMAND
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_every_option_with_its_default(name: str) -> None:
    command = table(name)
    shown = " ".join(help_of(command).split()).replace("| ", "|")  # long rows are broken there
    assert command.name == name
    assert shown.startswith(f"usage: densekit {name} ")
    assert not command.options or " options: " in shown
    for option in command.options:
        shown_row, about = option.row
        assert f" {shown_row} {' '.join(about.split())}" in shown
    for setting, about in command.settings:
        assert f" {setting} {about}" in shown
    for group in command.groups():
        assert f" {group} {', '.join(groups.options(group))}" in shown


@pytest.mark.parametrize("name", [*COMMANDS, *LISTS])
def test_help_fits_the_terminal(name: str) -> None:
    shown = help_of(listing.command(name) if name in LISTS else table(name))
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert shown == "\n".join(line.rstrip() for line in shown.splitlines()) + "\n"


def test_defaults_are_shown_as_they_are_typed() -> None:
    shown = {
        Option("memory", number(), 8.0, "x"): "memory=NUMBER x (default: 8)",
        Option("json", flag(), False, "x"): "json=true|false x (default: false)",
        Option("trust", names("PACKAGE"), (), "x"): "trust=[PACKAGE,...] x",
        Option("precision", choices("a", "b"), ("a",), "x"): "precision=[a|b,...] x (default: [a])",
        Option("output", text("DIR"), None, "x"): "output=DIR x",
        Option("output", text("DIR"), None, "x", required=True): "output=DIR x (required)",
    }
    for option, row in shown.items():
        assert " ".join(option.row) == row


def commands_in(text: str) -> list[list[str]]:
    """The command lines that a page shows in blocks and in the running text, as words."""
    blocks = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)).replace("\\\n", " ")
    lines = re.findall(r"^(?:uv run )?densekit ([a-z].*)$", blocks, re.M)
    lines += re.findall(r"`densekit ([a-z][^`]*)`", text)
    return [shlex.split(line, comments=True) for line in lines]


PAGES = ["README.md", *sorted(str(p.relative_to(PROJECT)) for p in PROJECT.glob("docs/**/*.md"))]


def check(words: list[str]) -> None:
    """Parses a command line by the table of its command."""
    name, *arguments = words
    if name in LISTS:
        parse_command(listing.command(name), arguments)
        return
    command = table(name)
    if name == "eval" and any(word.startswith("results=") for word in arguments):
        command = FILES_FORM
    roots = [re.split("[.=]", setting)[0] for setting, _ in command.settings]
    if not command.overrides:
        arguments = [word for word in arguments if re.split("[.=]", word)[0] not in roots]
    parse_command(command, arguments)


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_accepted(name: str) -> None:
    for line in table(name).examples:
        check(shlex.split(line.replace("\\\n", " "), comments=True))


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_guide_are_accepted(page: str) -> None:
    for words in commands_in((PROJECT / page).read_text()):
        if len(words) > 1:  # without any, it is the name of the command
            check(words)


def test_an_unknown_option_in_a_page_is_found() -> None:
    (words,) = commands_in("```bash\ndensekit predict checkpoint=a source=b outptu=c\n```")
    with pytest.raises(UsageError, match="did you mean 'output'"):
        check(words)
