"""Tables on the terminal: what users have named is text there, never markup or an emoji's code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def plain(cells: Iterable[str]) -> list[Text]:
    """Cells, titles and lines as rich prints them letter by letter."""
    from rich.text import Text

    return [Text(cell) for cell in cells]


def table_of(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of names, in the first column, and numbers."""
    from rich.table import Table

    table = Table(title=plain([title])[0] if title else None, title_justify="left")
    for index, column in enumerate(plain(columns)):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*plain(row))
    return table
