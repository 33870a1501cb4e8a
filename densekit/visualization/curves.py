"""Draws training curves and learning-rate range tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from densekit._files import replacing
from densekit.visualization.fonts import choose_font, matplotlib_fonts

Series = dict[str, list[tuple[int, float]]]
"""Logged name to (optimiser step, value)."""


def draw_curves(panels: Mapping[str, Series], path: Path) -> None:
    """Draws panels of curves over the optimiser steps, one below the other.

    Args:
        panels: Panel title to its curves by logged name; those of `val/` are dashed. Empty panels
            are left out.
        path: PNG file; its folder is created.
    """
    shown = {title: curves for title, curves in panels.items() if any(curves.values())}
    with matplotlib_fonts(name for curves in shown.values() for name in curves):
        figure = Figure(figsize=(10, 3.2 * len(shown)), layout="constrained")
        all_axes = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
        for axes, (title, curves) in zip(all_axes, shown.items(), strict=True):
            _draw_panel(axes, title, curves)
        all_axes[-1].set_xlabel("optimiser step")
        with replacing(path) as part:
            figure.savefig(part, dpi=110)


def draw_range(
    rates: Sequence[float],
    losses: Sequence[float],
    smooth: Sequence[float],
    suggested: float | None,
    path: Path,
) -> None:
    """Draws the loss over the learning rate, on a logarithmic axis.

    Args:
        rates: Learning rates.
        losses: One per rate.
        smooth: The same losses, averaged over their neighbours.
        suggested: Marked by a vertical line; None for none.
        path: PNG file; its folder is created.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color="C0", alpha=0.3, label="train/loss")
    axes.plot(rates, smooth, color="C0", linewidth=2.2, label="averaged")
    if suggested is not None:
        axes.axvline(suggested, color="C1", linestyle="--", label=f"lr={suggested:.2g}")
    axes.set(xscale="log", xlabel="optimizer.lr", ylabel="loss")
    axes.set_ylim(top=min(max(losses), 2 * max(smooth[: max(1, len(smooth) // 3)])))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with replacing(path) as part:
        figure.savefig(part, dpi=110)


def _draw_panel(axes: Axes, title: str, lines: Series) -> None:
    """Draws one panel: training solid, validation dashed in the same colour."""
    colours: dict[str, str] = {}
    for name, line in lines.items():
        steps, values = zip(*line, strict=True)
        term = name.split("/", 1)[-1]
        colour = colours.setdefault(term, f"C{len(colours)}")
        style = "o--" if name.startswith("val/") else "-"
        style = "o" if len(line) == 1 else style  # a line through one point is invisible
        width = 2.2 if term == "loss" else 1.2
        label = choose_font(name)[0]
        axes.plot(steps, values, style, color=colour, label=label, linewidth=width, markersize=4)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if title == "loss":
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
