"""Writes categories as a table, and draws them above their images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import write_csv
from densekit._names import readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP = 5
"""Number of most probable classes in a row of the table."""


class CategoryWriter:
    """Collects categories; `close` writes `categories.csv`, one row per image.

    Args:
        output: Folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.rows: dict[str, list[list[str]]] = {}

    def add(self, head: str, result: Mapping[str, Any], file: Path, names: Sequence[str]) -> None:
        """Adds the result of one head and image."""
        predicted = ";".join(names[label] for label in result["labels"])
        order = (-result["probabilities"]).argsort(kind="stable")[:TOP]
        best = [(names[label], f"{result['probabilities'][label]:.6f}") for label in order]
        row = [readable(file), predicted, *(cell for pair in best for cell in pair)]
        self.rows.setdefault(head, []).append(row)

    def draw(self, image: Any, result: Mapping[str, Any], names: Sequence[str], file: Path) -> None:
        """Draws the image under its class, or its labels.

        Args:
            image: (*S, C) array or a volume.
            result: `labels` and `scores`.
            names: Class names.
            file: The image file to write.
        """
        from densekit.visualization.categories import describe_scores, draw_category
        from densekit.visualization.images import save_picture

        pixels: NDArray[Any] = getattr(image, "image", image)
        title = describe_scores(result["labels"][:TOP], result["scores"][:TOP], names)
        save_picture(draw_category(pixels, title), file)

    def close(self, heads: Sequence[str]) -> None:
        """Writes the tables of heads with results, `categories_HEAD.csv` if there are several."""
        for head, rows in self.rows.items():
            name = "categories.csv" if len(heads) == 1 else f"categories_{head}.csv"
            ranks = range(1, (len(rows[0]) - 2) // 2 + 1)
            columns = [f"{what}_{n}" for n in ranks for what in ("name", "probability")]
            write_csv(self.output / name, [["image", "predicted", *columns], *rows])
