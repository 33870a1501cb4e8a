"""How the result of a head is seen: what a kind of result puts on the page, and what moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from densekit.app.demo.canvas import Canvas, Place
    from densekit.visualization.images import Picture


@dataclass(frozen=True)
class Slider:
    """A number that moves what is drawn, without another prediction.

    Attributes:
        label: What it is.
        low: Its lowest value.
        high: Its highest value.
        start: Its value at first.
    """

    label: str
    low: float
    high: float
    start: float


@dataclass(frozen=True)
class Rows:
    """A table.

    Attributes:
        header: Names of the columns.
        cells: One row each.
    """

    header: Sequence[str]
    cells: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Panel:
    """What is shown of a result; whatever is empty is not there.

    Attributes:
        picture: (H, W, 3).
        note: One line about it.
        rows: A table.
        shares: Class name to probability.
        values: Plain values, shown as JSON.
    """

    picture: Picture | None = None
    note: str = ""
    rows: Rows | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    values: Any = None


class View(Protocol):
    """The result of one head for one image."""

    @property
    def canvas(self) -> Canvas:
        """The image."""

    @property
    def slider(self) -> Slider | None:
        """None if no number moves anything."""

    def panel(self, value: float | None, place: Place) -> Panel:
        """What is shown at a value of the slider, None before it was moved, and at a place."""

    def best(self, axis: int) -> int:
        """The slice along an axis that is shown first."""
