"""Tables on the terminal; names of users are printed literally, never as markup or emoji codes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from densekit._names import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def plain(text: str, style: str = "") -> Text:
    """Returns text that rich prints literally, for a cell, a title or a line."""
    from rich.text import Text

    return Text(visible(text), style)


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Returns a table with names in the first column and numbers in the others."""
    from rich.table import Table

    table = Table(title=plain(title) if title else None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(plain(column), justify="right" if index else "left", no_wrap=not index)
    for row in rows:
        table.add_row(*map(plain, row))
    return table


def print_whole(table: Table) -> None:
    """Prints a rich table that breaks lines only between words, so that names can be copied.

    If the words do not fit, the table is wider than the terminal.
    """
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    wide = console.options.update(max_width=10_000)
    least, most = [], []
    for column in table.columns:
        cells = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
        least.append(max(cell.minimum for cell in cells))
        most.append(max(cell.maximum for cell in cells))
    frame = Measurement.get(console, wide, table).maximum - sum(most)
    widths = shares(least, most, console.width - frame)
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    Console(width=max(console.width, sum(widths) + frame)).print(table)


def shares(least: Sequence[int], most: Sequence[int], total: int) -> list[int]:
    """Divides a total width fairly among columns, each between its least and its most."""
    widths, spare = list(least), total - sum(least)
    by_need = sorted(range(len(widths)), key=lambda column: most[column] - least[column])
    for index, column in enumerate(by_need):
        share = max(0, spare // (len(widths) - index))
        share = min(share, most[column] - least[column])
        widths[column] += share
        spare -= share
    return widths
