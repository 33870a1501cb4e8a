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
