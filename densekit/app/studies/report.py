"""Report of the residual study: on the terminal, as files and as a plot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from densekit._files import replacing, write_csv, write_json, write_text
from densekit.app.studies.degradation import (
    STANDARD_ERRORS,
    Answer,
    Outcome,
    Outcomes,
    answers,
    gradient_ratio,
    groups,
    of_seeds,
    standard_error,
    verdict,
)
from densekit.app.terminal import print_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME = "degradation"
COLUMNS = ("net", "layers", "seeds", "training error %", "test error %", "gradient ratio")
LOWEST = -2.0
"""Lower end of the error axes: a line at zero must be visible."""
STYLES = {"plain": "--", "residual": "-"}


def report(outcomes: Outcomes, ends: tuple[int, int], folder: Path) -> None:
    """Prints the table and the conclusion; writes degradation.md, .csv, .json and .png.

    Args:
        outcomes: Outcomes of the completed runs.
        ends: The two depths that are compared.
        folder: Where the files go; they are overwritten.
    """
    found = answers(outcomes, *ends)
    lines = [*table(outcomes), "", *map(str, found), verdict(found)]
    print_lines("", *lines, "")
    write_text(folder / f"{NAME}.md", _markdown(lines))
    _write_rows(outcomes, folder / f"{NAME}.csv")
    _write_answers(found, folder / f"{NAME}.json")
    draw(outcomes, folder / f"{NAME}.png")
    print_lines(f"table and plot: {folder / NAME}.md, .csv, .json, .png")


def table(outcomes: Outcomes) -> list[str]:
    """Lines of a Markdown table, one row per kind of network and depth, with standard errors.

    The last column is the gradient norm of the first layer over that of the last convolution,
    before the first step.
    """
    rows: list[tuple[str, ...]] = [COLUMNS]
    for net, depth in groups(outcomes):
        runs = of_seeds(outcomes, net, depth)
        errors = [
            _percent([getattr(run, name) for run in runs]) for name in ("train_error", "test_error")
        ]
        ratio = f"{gradient_ratio(outcomes, net, depth, 'start'):.3g}"
        rows.append((net, str(depth), str(len(runs)), *errors, ratio))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in rows
    ]


def draw(outcomes: Outcomes, path: Path) -> None:
    """Draws six panels: training curves, errors by depth, and the signal through the layers.

    Args:
        outcomes: Outcomes of the runs.
        path: PNG file.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(13, 7), layout="constrained")
    panels = figure.subplots(2, 3)
    _draw_curves(panels[0, 0], outcomes)
    _draw_errors(panels[0, 1], outcomes)
    _draw_signal(panels[0, 2], outcomes, "start", "variance")
    _draw_signal(panels[1, 0], outcomes, "start", "similarity")
    _draw_signal(panels[1, 1], outcomes, "start", "gradient")
    _draw_signal(panels[1, 2], outcomes, "end", "gradient")
    titles = (
        ("training error, %", "optimiser step"),
        (f"error at the end, %, ± {STANDARD_ERRORS:g} standard errors", "layers"),
        ("variance of a block's output, before training", "block"),
        ("similarity to the image, before training", "block"),
        ("norm of the gradient, before training", "convolution"),
        ("norm of the gradient, after training", "convolution"),
    )
    for axes, (title, label) in zip(panels.flat, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for axes in panels[1, 1:]:
        axes.set_yscale("log")
    handles, labels = panels[1, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=9)
    with replacing(path) as part:
        figure.savefig(part, dpi=80)


def _draw_curves(axes: Axes, outcomes: Outcomes) -> None:
    for net, depth in groups(outcomes):
        curves = [run.curve for run in of_seeds(outcomes, net, depth) if run.curve]
        steps, values = _mean_line(curves)
        axes.plot(steps, [100 * v for v in values], STYLES[net], color=_color(outcomes, depth))
    axes.set_ylim(bottom=LOWEST)


def _draw_errors(axes: Axes, outcomes: Outcomes) -> None:
    marks: dict[str, Callable[[Outcome], float]] = {
        "train": lambda run: run.train_error,
        "test": lambda run: run.test_error,
    }
    for net, style in STYLES.items():
        depths = [depth for kind, depth in groups(outcomes) if kind == net]
        for split, error in marks.items():
            seeds = [[100 * error(run) for run in of_seeds(outcomes, net, d)] for d in depths]
            margins = [STANDARD_ERRORS * standard_error(values) for values in seeds]
            axes.errorbar(
                *(depths, [fmean(values) for values in seeds], margins),
                linestyle=style,
                marker="o" if split == "train" else "s",
                color="black" if split == "train" else "grey",
                capsize=3,
                label=f"{net}, {split}",
            )
    axes.set_ylim(bottom=LOWEST)
    axes.legend(fontsize=8)


def _draw_signal(axes: Axes, outcomes: Outcomes, when: str, measure: str) -> None:
    for net, depth in groups(outcomes):
        signals = [run.signal for run in of_seeds(outcomes, net, depth)]
        lines = [list(enumerate(s[when][measure], start=1)) for s in signals if when in s]
        positions, values = _mean_line(lines)
        label = f"{net}, {depth} layers"
        axes.plot(positions, values, STYLES[net], color=_color(outcomes, depth), label=label)


def _mean_line(lines: Iterable[Sequence[tuple[int, float]]]) -> tuple[list[int], list[float]]:
    """Positions that all lines have, and the mean of the values there."""
    tables = [dict(line) for line in lines]
    common = sorted(set.intersection(*map(set, tables))) if tables else []
    return common, [fmean(table[position] for table in tables) for position in common]


def _color(outcomes: Outcomes, depth: int) -> str:
    return f"C{sorted({depth for _, depth in groups(outcomes)}).index(depth)}"


def _percent(values: Sequence[float]) -> str:
    mean, error = 100 * fmean(values), 100 * standard_error(values)
    return f"{mean:.1f} ± {error:.1f}"


def _markdown(lines: Sequence[str]) -> str:
    return (
        "\n".join(line if line.startswith("|") or not line else f"{line}  " for line in lines)
        + "\n"
    )


def _write_rows(outcomes: Outcomes, path: Path) -> None:
    rows: list[list[Any]] = [
        [twin.net, twin.depth, twin.seed, run.train_error, run.test_error]
        for twin, run in sorted(outcomes.items())
    ]
    write_csv(path, [["net", "depth", "seed", "train_error", "test_error"], *rows])


def _write_answers(found: Sequence[Answer], path: Path) -> None:
    rows = [
        {
            "claim": answer.claim,
            "shown": answer.shown,
            "difference": answer.contrast.value,
            "margin": answer.contrast.margin,
        }
        for answer in found
    ]
    write_json(path, {"verdict": verdict(found), "answers": rows})
