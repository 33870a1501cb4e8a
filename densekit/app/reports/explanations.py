"""What `densekit explain` has left in the run folder: faithfulness, rows and pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densekit._names import readable
from densekit.app.reports.blocks import Block, Gallery, ImageKey, Note, Picture, View
from densekit.app.reports.folder import Run
from densekit.app.reports.worst import MOST
from densekit.metrics.analyses import Cell, Table

FOLDER, FILE = "explanations", "explanations.json"
GAIN = ("map", "random", "gain", "gain low", "gain high")
HIDDEN = ("picture", "map", "head")
ABOUT = (
    "Deletion and insertion of the most salient pixels, the map against a random one of the same"
    " smoothness; low and high are the ends of the 95 % interval of the gain."
)


def explanations(run: Run) -> list[Block]:
    """Tables and pictures of `RUN/explanations`; nothing without."""
    folder = run.path / FOLDER
    if not (folder / FILE).is_file():
        return []
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        rows, blocks = list(content["rows"]), _faithfulness(content)
        gallery = _gallery(folder, rows)
        return [*blocks, *([gallery] if gallery.pictures else []), _table(rows)]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        return [Note(f"{FOLDER}/{FILE} cannot be read: {error}")]


def _faithfulness(content: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = []
    if found := content["faithfulness"]:
        rows: list[list[Cell]] = [
            [name, *(one[key] for key in ("map", "random", "gain", "low", "high"))]
            for name, one in found.items()
        ]
        blocks.append(Table("Faithfulness", ["measure", *GAIN], rows, ABOUT))
        blocks += [Note(f"{name}: {one['words']}") for name, one in found.items()]
    if weights := content["weights"]:
        blocks.append(Note(str(weights["words"])))
    return blocks


def _table(rows: list[Mapping[str, Any]]) -> Table:
    names = [name for name in rows[0] if name not in HIDDEN]
    cells: list[list[Cell]] = [[_cell(row[name]) for name in names] for row in rows]
    return Table("Maps", names, cells)


def _cell(value: Any) -> Cell:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _gallery(folder: Path, rows: list[Mapping[str, Any]]) -> Gallery:
    pictures = []
    for place, row in enumerate(rows[:MOST]):
        file = (folder / str(row["picture"])).resolve()
        if not file.is_relative_to(folder.resolve()):  # the file may have been written by anybody
            continue
        name, what = readable(row["image"]), f"{row['target']}, {row['method']}"
        pictures.append(Picture([View(ImageKey("", place, file=str(file)))], name, [what]))
    return Gallery("Explanations", "Prediction and map side by side.", pictures, {})
