"""Learning-rate schedules: the factor of the optimiser's learning rate at each step.

A schedule is a pure function of the index of the coming optimiser step and the number of steps of
the whole run, so that a resumed run continues exactly where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from densekit._names import counted


class Schedule(Protocol):
    """Protocol of learning-rate schedules for `LitModel`.

    The factor at step 0 must not depend on `total_steps`: the optimiser is built before the data
    loaders, when the length of the run is not known yet.
    """

    def __call__(self, step: int, total_steps: float) -> float:
        """Returns the factor of the learning rate.

        Args:
            step: Optimiser steps taken so far, 0 to `total_steps`.
            total_steps: Optimiser steps of the run, infinite for a run without an end.
        """
        ...


WARM_SHARE = 0.1
"""Largest share of a run that its warm-up may take."""


def warmup_end(steps: int, total_steps: float) -> float:
    """Step at which a warm-up ends; short runs have a shorter one."""
    return min(steps, WARM_SHARE * total_steps)


def warmup(step: int, end: float, factor: float) -> float:
    """Rises linearly from `factor` at step 0 to 1 at step `end`."""
    if step >= end:
        return 1.0
    return factor + (1.0 - factor) * step / end


def needs_end(schedule: Schedule) -> bool:
    """Whether a schedule depends on the length of the run."""
    long = 10**9
    return any(
        schedule(step, long) != schedule(step, math.inf) for step in range(0, long, long // 50)
    )


def check_end(schedule: Schedule, starts: Iterable[float] = ()) -> None:
    """Refuses schedules and late starts that depend on the length of a run without an end.

    Args:
        schedule: Of the learning rate.
        starts: Shares of the run before which some part does not train.

    Raises:
        ValueError: One of them needs the length of the run.
    """
    expected = (
        "expected a run with an end (trainer.max_epochs or trainer.max_steps), got one without"
    )
    if needs_end(schedule):
        name = getattr(schedule, "__name__", type(schedule).__name__)
        raise ValueError(f"schedule: {name} {expected}; schedule=constant needs none")
    if any(starts):
        raise ValueError(f"transfer: for parts that start later, {expected}")


def not_reached(schedule: Schedule, steps: int, total_steps: float) -> str | None:
    """Returns a message if the learning rate stayed below the optimiser's, None otherwise.

    Args:
        schedule: Of the learning rate.
        steps: Optimiser steps taken.
        total_steps: Steps that the schedule was called with.
    """
    asked = sorted({0, *range(0, steps, max(1, steps // 1000)), max(0, steps - 1)})
    highest = max(schedule(step, total_steps) for step in asked)
    if highest > 0.9 or steps == 0:
        return None
    return (
        f"schedule: the learning rate reached only {highest:.2g} of its value, as the run ended "
        f"after {counted(steps, 'step')}; use a shorter warm-up (schedule.warmup_steps, "
        "schedule.rise) or a longer run"
    )


def half_cosine(start: float, end: float, progress: float) -> float:
    """Interpolates from `start` to `end` along half a cosine wave, for `progress` from 0 to 1."""
    progress = min(max(progress, 0.0), 1.0)
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * progress))


class Constant:
    """Constant learning rate after a warm-up.

    Args:
        warmup_steps: Optimiser steps of the linear warm-up, at most `WARM_SHARE` of the run.
        warmup_factor: Factor at step 0.
    """

    def __init__(self, warmup_steps: int = 0, warmup_factor: float = 1e-3) -> None:
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor

    def __call__(self, step: int, total_steps: float) -> float:
        """See `Schedule`."""
        return warmup(step, warmup_end(self.warmup_steps, total_steps), self.warmup_factor)


class MultiStep:
    """Multiplies the learning rate by `gamma` at each milestone.

    Args:
        milestones: Increasing fractions of the run between 0 and 1: epochs 8 and 11 of 12 are
            `[0.667, 0.917]`. As fractions they apply to any batch size and length.
        gamma: Factor at each milestone.
        warmup_steps: Optimiser steps of the linear warm-up, at most `WARM_SHARE` of the run.
        warmup_factor: Factor at step 0.

    Raises:
        ValueError: A milestone is outside (0, 1), or they do not increase.
    """

    def __init__(
        self,
        milestones: Sequence[float],
        gamma: float = 0.1,
        warmup_steps: int = 0,
        warmup_factor: float = 1e-3,
    ) -> None:
        inside = all(0.0 < milestone < 1.0 for milestone in milestones)
        if not inside or list(milestones) != sorted(set(milestones)):
            raise ValueError(
                "schedule.milestones: expected increasing fractions of the run between 0 and 1 "
                f"(epochs 8 and 11 of 12 are [0.667, 0.917]), got {list(milestones)}"
            )
        self.milestones = tuple(milestones)
        self.gamma = gamma
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor

    def __call__(self, step: int, total_steps: float) -> float:
        """See `Schedule`."""
        passed = sum(step >= milestone * total_steps for milestone in self.milestones)
        rise = warmup(step, warmup_end(self.warmup_steps, total_steps), self.warmup_factor)
        return float(rise * self.gamma**passed)


class Cosine:
    """Warm-up, then half a cosine wave down to the end of the run (Loshchilov & Hutter, SGDR).

    Args:
        warmup_steps: Optimiser steps of the linear warm-up, at most `WARM_SHARE` of the run.
        warmup_factor: Factor at step 0.
        final_factor: Factor at the end of the run.
    """

    def __init__(
        self, warmup_steps: int = 0, warmup_factor: float = 1e-3, final_factor: float = 0.0
    ) -> None:
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor
        self.final_factor = final_factor

    def __call__(self, step: int, total_steps: float) -> float:
        """See `Schedule`."""
        end = warmup_end(self.warmup_steps, total_steps)
        if step < end:
            return warmup(step, end, self.warmup_factor)
        remaining = max(total_steps - end, 1.0)
        return half_cosine(1.0, self.final_factor, (step - end) / remaining)


class Polynomial:
    """Warm-up, then `(1 - progress) ** power` down to the end of the run ("poly", ParseNet).

    Args:
        power: Exponent; 1 is a straight line.
        warmup_steps: Optimiser steps of the linear warm-up, at most `WARM_SHARE` of the run.
        warmup_factor: Factor at step 0.
        final_factor: Factor at the end of the run.

    Raises:
        ValueError: `power` is not positive.
    """

    def __init__(
        self,
        power: float = 0.9,
        warmup_steps: int = 0,
        warmup_factor: float = 1e-3,
        final_factor: float = 0.0,
    ) -> None:
        if not power > 0:
            raise ValueError(f"schedule.power: expected a positive number, got {power}")
        self.power = power
        self.warmup_steps = warmup_steps
        self.warmup_factor = warmup_factor
        self.final_factor = final_factor

    def __call__(self, step: int, total_steps: float) -> float:
        """See `Schedule`."""
        end = warmup_end(self.warmup_steps, total_steps)
        if step < end:
            return warmup(step, end, self.warmup_factor)
        left = max(0.0, 1.0 - (step - end) / max(total_steps - end, 1.0))
        return float(self.final_factor + (1.0 - self.final_factor) * left**self.power)


class OneCycle:
    """Rises to the learning rate and falls far below it, along half cosines (Smith & Topin).

    The optimiser's `lr` is the peak. The momentum is not scheduled.

    Args:
        rise: Fraction of the run in which the rate rises, between 0 and 1.
        start_factor: Factor at step 0.
        final_factor: Factor at the end of the run.

    Raises:
        ValueError: `rise` is outside (0, 1).
    """

    def __init__(
        self, rise: float = 0.3, start_factor: float = 0.04, final_factor: float = 4e-6
    ) -> None:
        if not 0.0 < rise < 1.0:
            raise ValueError(f"schedule.rise: expected a fraction between 0 and 1, got {rise}")
        self.rise = rise
        self.start_factor = start_factor
        self.final_factor = final_factor

    def __call__(self, step: int, total_steps: float) -> float:
        """See `Schedule`."""
        peak = self.rise * total_steps
        if step < peak:
            return half_cosine(self.start_factor, 1.0, step / peak)
        return half_cosine(1.0, self.final_factor, (step - peak) / max(total_steps - peak, 1.0))
