"""Tables on the terminal: what users have named is text there, never markup or an emoji's code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def plain(text: str, style: str = "") -> Text:
    """A cell, a title or a line that rich prints letter by letter."""
    from rich.text import Text

    return Text(text, style)


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of names, in the first column, and numbers."""
    from rich.table import Table

    table = Table(title=plain(title) if title else None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(plain(column), justify="right" if index else "left", no_wrap=not index)
    for row in rows:
        table.add_row(*map(plain, row))
    return table
