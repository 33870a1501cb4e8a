"""The `densekit` command line: finds the command and runs it."""

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
        argv: Arguments after `densekit`; those of the process by default.

    Returns:
        The exit code: 0 for done, 1 for done in part or with other results than asserted, 2 for a
        wrong command line or input, 128 + N for stopped by signal N.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if hasattr(sys.stdout, "reconfigure"):  # an unprintable name must not stop a command
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return _dispatch(args)
    except Stopped as stop:
        print(f"densekit: {stop}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("densekit: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        return report(error)


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in HELP:
        print(overview(COMMANDS, LISTS), end="")
        return 0 if args else 2
    if args[0] == "--version":
        from densekit import __version__

        print(f"densekit {__version__}")
        return 0
    command, arguments = args[0], args[1:]
    if command not in (known := [*COMMANDS, *LISTS]):
        raise UsageError(unknown("command", command, known))
    about, run = _find(command)
    if any(word in HELP for word in arguments):
        print(help_of(about), end="")
        return 0
    from densekit.app.terminal import console_logging

    with console_logging():
        return run(arguments) or 0


def _find(name: str) -> tuple[Command, Callable[[list[str]], int | None]]:
    """Returns the description of a command, for its help, and the function that runs it."""
    if name in LISTS:
        from densekit.app.commands import listing

        return listing.command(name), partial(listing.main, name)
    module = importlib.import_module(f"densekit.app.commands.{name.replace('-', '_')}")
    return module.COMMAND, module.main
