"""The `densekit` command line: it finds the command and hands the rest over."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial

from densekit._names import unknown
from densekit.app.commands import COMMANDS, LISTS
from densekit.app.errors import Stopped, UsageError, report
from densekit.app.options.help import help_of, overview
from densekit.app.options.table import Command

HELP = ("-h", "--help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Words after `densekit`; default the process's own.

    Returns:
        The exit code: 0 done, 1 done in part, 2 wrong command line or input, 128 + N stopped by
        signal N.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if hasattr(sys.stdout, "reconfigure"):  # a name that cannot be printed costs no results
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(words)
    except Stopped as stop:
        print(f"densekit: {stop}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("densekit: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return report(error)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in HELP:
        print(overview(COMMANDS, LISTS), end="")
        return 0 if words else 2
    if words[0] == "--version":
        from densekit import __version__

        print(f"densekit {__version__}")
        return 0
    command, arguments = words[0], words[1:]
    if command not in (known := [*COMMANDS, *LISTS]):
        raise UsageError(unknown("command", command, known))
    about, run = _find(command)
    if any(word in HELP for word in arguments):
        print(help_of(about), end="")
        return 0
    from densekit.app.report import spoken_log

    with spoken_log():
        return run(arguments) or 0


def _find(name: str) -> tuple[Command, Callable[[list[str]], int | None]]:
    """The table of a command, and what runs it."""
    if name in LISTS:
        from densekit.app.commands import listing

        return listing.command(name), partial(listing.main, name)
    module = importlib.import_module(f"densekit.app.commands.{name.replace('-', '_')}")
    return module.COMMAND, module.main
