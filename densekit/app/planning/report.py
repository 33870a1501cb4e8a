"""Prints the findings of `densekit plan` as tables."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from densekit.app.planning.rules import Plan
from densekit.app.terminal import print_lines, print_numbers
from densekit.data.fingerprint import Fingerprint


def report(found: Fingerprint, plan: Plan, cases: int) -> None:
    """Prints sizes and spacings beside the plan, classes, intensities and the memory of a step.

    Args:
        found: Of the inspected volumes.
        plan: Made for them.
        cases: Number of training volumes.
    """
    rows = [
        ["voxels", *_spread(found.shapes), _joined(plan.shape)],
        ["spacing, mm", *_spread(found.spacings), _joined(plan.spacing)],
        ["patch, voxels", "", "", "", _joined(plan.patch)],
    ]
    columns = ["along z, y, x", "smallest", "median", "largest", "planned"]
    print_numbers(columns, rows, f"{cases} training volumes, {len(found.shapes)} inspected")
    rows = [
        [name, f"{share:.3%}", f"{present} of {len(found.shapes)}"]
        for name, share, present in zip(found.names, found.shares, found.present, strict=True)
    ]
    print_numbers(["class", "share of voxels", "cases with it"], rows, "classes")
    named = found.modalities or [""] * len(found.percentiles)
    rules = plan.intensity.get("rules", [plan.intensity] * len(named))
    rows = [
        [f"{channel} {name}".strip(), *(f"{value:.4g}" for value in values), rule["kind"]]
        for channel, (name, values, rule) in enumerate(
            zip(named, found.percentiles, rules, strict=True)
        )
    ]
    columns = ["channel", "0.5 %", "median", "99.5 %", "planned"]
    print_numbers(columns, rows, "stored values in the foreground")
    print_lines(f"a step of {plan.batch_size} patches takes about {plan.memory:.1f} GiB in float32")


def _spread(rows: np.ndarray) -> list[str]:
    return [_joined(row) for row in (rows.min(0), np.median(rows, axis=0), rows.max(0))]


def _joined(values: Iterable[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in values)
