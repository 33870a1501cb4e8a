"""The page: sections to HTML, with as many and as fine pictures as its size allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from PIL import Image

from densekit import __version__
from densekit.app.pages import asset, data_uri, image_uri, rendered, script_data, source_hash
from densekit.app.reports.blocks import Block, Box, Gallery, ImageKey, Picture, Section, View
from densekit.app.reports.pictures import Pictures
from densekit.app.reports.tables import number, shown_bars, shown_matrix, shown_table
from densekit.metrics.analyses import Curves, Table
from densekit.visualization.colours import class_colour

LIMIT = 5_000_000
"""Bytes of a page, at most."""
SCRIPTS = ("report_tables.js", "report_charts.js", "report_pictures.js")
FILTERS: Mapping[str, Callable[..., Any]] = {
    **{"number": number, "shown_table": shown_table},
    **{"shown_bars": shown_bars, "shown_matrix": shown_matrix},
}
MOST_ROWS = 1500
MOST_POINTS = 250
LONGEST_CELL = 300


@dataclass(frozen=True)
class Rung:
    """How pictures are held: longer side, quality of the compression, number in a gallery."""

    side: int
    quality: int
    most: int


LADDER = (
    *(Rung(512, 78, 24), Rung(448, 72, 24), Rung(384, 68, 20), Rung(320, 60, 16)),
    *(Rung(256, 50, 12), Rung(192, 40, 8), Rung(128, 30, 4), Rung(128, 30, 0)),
)
"""From the finest; the first one with which the page is small enough is taken."""


def page(heading: str, subtitle: str, sections: Sequence[Section], pictures: Pictures) -> str:
    """The text of the HTML file.

    Args:
        heading: Title of the page.
        subtitle: Line below it.
        sections: What it shows; empty ones are left out.
        pictures: Reads the images of galleries.
    """
    shown = [
        replace(one, blocks=list(_limited(one.blocks, pictures))) for one in sections if one.blocks
    ]
    for rung in LADDER:
        text = _rendered(heading, subtitle, shown, pictures, rung)
        if len(text.encode("utf-8", "replace")) <= LIMIT:
            return text
    return text


def _rendered(
    heading: str,
    subtitle: str,
    sections: Sequence[Section],
    pictures: Pictures,
    rung: Rung,
) -> str:
    payload = Payload(pictures, rung)
    parts = [
        {
            "title": section.title,
            "id": f"s{number}",
            "blocks": [_block(block, payload) for block in section.blocks],
        }
        for number, section in enumerate(sections)
    ]
    style, script = asset("report.css"), "".join(map(asset, SCRIPTS))
    return rendered(
        "report.html.txt",
        FILTERS,
        heading=heading,
        subtitle=subtitle,
        sections=parts,
        style=style,
        script=script,
        style_hash=source_hash(style),
        script_hash=source_hash(script),
        payload=script_data(payload.values()),
        version=__version__,
        now=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )


def _block(block: Block, payload: Payload) -> dict[str, Any]:
    """A block for the template: its kind, itself, and its number in what the script draws."""
    number = None
    if isinstance(block, Curves):
        number = payload.add_chart(block)
    elif isinstance(block, Gallery):
        block = replace(block, pictures=block.pictures[: payload.rung.most])
        number = payload.add_gallery(block)
    return {"kind": type(block).__name__.lower(), "it": block, "number": number}


class Payload:
    """What the script of the page draws.

    Args:
        pictures: Reads images.
        rung: How they are held.
    """

    def __init__(self, pictures: Pictures, rung: Rung) -> None:
        self.rung = rung
        self._pictures = pictures
        self._charts: list[dict[str, Any]] = []
        self._galleries: list[dict[str, Any]] = []
        self._images: dict[str, dict[str, Any]] = {}
        self._names: dict[ImageKey, str] = {}

    def values(self) -> dict[str, Any]:
        """Plain values."""
        return {"charts": self._charts, "galleries": self._galleries, "images": self._images}

    def add_chart(self, chart: Curves) -> int:
        """Adds lines, thinned to what can be seen; returns their number."""
        lines = [
            {"name": str(name), **_thinned(np.asarray(x, float), np.asarray(y, float))}
            for name, (x, y) in chart.lines.items()
        ]
        marked = {str(name): list(map(float, point)) for name, point in chart.marked.items()}
        self._charts.append(
            {
                **{"title": chart.title, "x": chart.x, "y": chart.y, "lines": lines},
                **{"marked": marked, "diagonal": chart.diagonal},
            }
        )
        return len(self._charts) - 1

    def add_gallery(self, gallery: Gallery) -> int:
        """Adds pictures; returns their number."""
        classes = {
            str(value): [name, "#{:02x}{:02x}{:02x}".format(*class_colour(value))]
            for value, name in gallery.classes.items()
        }
        self._galleries.append(
            {
                "classes": classes,
                "bits": gallery.bits,
                "thresholds": {str(k): round(v, 3) for k, v in gallery.thresholds.items()},
                "pictures": [self._picture(one) for one in gallery.pictures],
            }
        )
        return len(self._galleries) - 1

    def _picture(self, picture: Picture) -> dict[str, Any]:
        views = [self._view(view) for view in picture.views]
        return {"name": picture.name, "lines": list(picture.lines), "views": views}

    def _view(self, view: View) -> dict[str, Any]:
        return {
            "image": self._image(view),
            "title": view.title,
            "truth": [[*_rounded(box), label] for box, label in view.truth],
            "found": [[*_rounded(box), label, round(s, 3)] for box, label, s in view.found],
            "masks": data_uri(view.masks, "png") if view.masks else "",
            "marked": _rounded(view.marked) if view.marked else None,
        }

    def _image(self, view: View) -> str:
        """Adds an image once; returns its name."""
        if view.image in self._names:
            return self._names[view.image]
        name = self._names[view.image] = f"i{len(self._names)}"
        found = self._pictures.of(view.image)
        frame = found.frame or view.image.region or _extent(view)
        source = "" if found.picture is None else self._encoded(found.picture)
        self._images[name] = {"source": source, "frame": frame, "reason": found.reason}
        return name

    def _encoded(self, picture: Image.Image) -> str:
        small = picture.copy()
        small.thumbnail((self.rung.side, self.rung.side), Image.Resampling.LANCZOS)
        return image_uri(small, self.rung.quality)


def _extent(view: View) -> Box | None:
    """The area of the boxes of an image that cannot be read."""
    boxes = np.array([box for box, *_ in (*view.truth, *view.found)])
    return (0.0, 0.0, float(boxes[:, 2].max()), float(boxes[:, 3].max())) if len(boxes) else None


def _rounded(box: Box) -> list[float]:
    return [round(side, 1) for side in box]


def _thinned(x: Any, y: Any) -> dict[str, list[float]]:
    """At most `MOST_POINTS` of a line: its first and last one, and steps of equal number."""
    chosen = np.arange(len(x))
    if len(x) > MOST_POINTS:
        chosen = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).round().astype(int))
    digits = [[float(f"{value:.5g}") for value in values[chosen]] for values in (x, y)]
    return {"xs": digits[0], "ys": digits[1]}


def _limited(blocks: Sequence[Block], pictures: Pictures) -> Iterator[Block]:
    """Tables of as many rows as can be read, of cells that fit a line or two.

    A gallery with nothing to draw, such as of series, becomes a table.
    """
    for block in blocks:
        if isinstance(block, Gallery) and not _is_drawn(block, pictures):
            rows = [[one.name, ", ".join(one.lines)] for one in block.pictures]
            block = Table(block.title, ["image", "values"], rows, block.about)
        if isinstance(block, Table):
            rows = [[_short(cell) for cell in row] for row in block.rows[:MOST_ROWS]]
            more = f" The first {MOST_ROWS} of {len(block.rows)} rows."
            cut = more if len(block.rows) > MOST_ROWS else ""
            yield replace(block, rows=rows, about=f"{block.about}{cut}".strip())
        else:
            yield block


def _is_drawn(gallery: Gallery, pictures: Pictures) -> bool:
    views = [view for picture in gallery.pictures for view in picture.views]
    return any(
        view.masks or view.truth or view.found or pictures.of(view.image).picture is not None
        for view in views
    )


def _short(cell: Any) -> Any:
    if isinstance(cell, str) and len(cell) > LONGEST_CELL:
        return f"{cell[:LONGEST_CELL]}…"
    return cell
