"""Training curves: losses, learning rate and main figures over the optimiser steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from densekit.training.sources import LOSS, is_main, source_names
from densekit.visualization.fonts import in_figures, lettering

FIGURES_PER_HEAD = 4
"""Heads list their most telling figures first; more lines than that are not legible."""

Series = dict[str, list[tuple[int, float]]]
"""Logged name to (optimiser step, value)."""


class Curves(Callback):
    """Draws `curves.png` after every validation and at the end; a resumed run goes on drawing.

    Args:
        path: The picture.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.series: Series = {}
        self._sums: dict[str, Tensor] = {}
        self._count = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Sums the losses on their device; reading each one would stop a GPU every step."""
        # Lightning has divided the loss by the batches that make a step, and the terms it has not.
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        terms = {"train/loss": loss, **outputs["terms"]}
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(term)) + term
        self._count += 1
        if self._count >= max(int(trainer.log_every_n_steps), 1):  # type: ignore[attr-defined]
            self._note_training(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes the figures and draws."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._note_training(trainer)
        sources = len(source_names(trainer))
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and is_main(name.removeprefix("val/"), sources):
                self._note(name, trainer.global_step, float(value))
        self._draw(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws what there is, also of a run without validation."""
        self._note_training(trainer)
        self._draw(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on."""
        return {"series": self.series}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the curves of the run that is resumed."""
        self.series = state_dict["series"]

    def _note_training(self, trainer: Trainer) -> None:
        if not self._count:
            return
        for name, total in self._sums.items():
            self._note(name, trainer.global_step, float(total) / self._count)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self._note("lr", trainer.global_step, float(rate))
        self._sums, self._count = {}, 0

    def _note(self, name: str, step: int, value: float) -> None:
        if math.isfinite(value):
            self.series.setdefault(name, []).append((step, value))

    def _draw(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and self.series:
            draw_curves(self.series, self.path)


def draw_curves(series: Series, path: Path) -> None:
    """Draws losses, learning rate and the main figures below each other.

    Args:
        series: Names as they are logged, those of single classes left out: `train/...`,
            `val/...`, `lr`.
        path: PNG file; its folder is made.
    """
    with in_figures(series):
        _draw_panels({lettering(name)[0]: line for name, line in series.items()}, path)


def _draw_panels(series: Series, path: Path) -> None:
    losses = {name: line for name, line in series.items() if LOSS in name.split("/")}
    figures = _first_of_each_head({k: v for k, v in series.items() if k not in losses})
    panels = [
        ("loss", losses),
        ("metric", figures),
        ("learning rate", {"lr": series.get("lr", [])}),
    ]
    panels = [(title, lines) for title, lines in panels if any(lines.values())]
    figure = Figure(figsize=(10, 3.2 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(all_axes, panels, strict=True):
        _draw_panel(axes, title, lines)
    all_axes[-1].set_xlabel("optimiser step")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, format="png")


def _first_of_each_head(series: Series) -> Series:
    chosen: Series = {}
    counts: dict[str, int] = {}
    for name, line in series.items():
        if name == "lr":
            continue
        head = name.rsplit("/", 1)[0]
        counts[head] = counts.get(head, 0) + 1
        if counts[head] <= FIGURES_PER_HEAD:
            chosen[name] = line
    return chosen


def _draw_panel(axes: Axes, title: str, lines: Series) -> None:
    """Training is solid, validation dashed in the same colour."""
    colours: dict[str, str] = {}
    for name, line in lines.items():
        steps, values = zip(*line, strict=True)
        term = name.split("/", 1)[-1]
        colour = colours.setdefault(term, f"C{len(colours)}")
        style = "o--" if name.startswith("val/") else "-"
        style = "o" if len(line) == 1 else style  # a line of one point would not be seen
        width = 2.2 if term == "loss" else 1.2
        axes.plot(steps, values, style, color=colour, label=name, linewidth=width, markersize=4)
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if title == "loss":
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
