"""What an explanation costs and how it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What an explanation costs and how it is checked.

    Attributes:
        masks: Number of random masks of RISE.
        grid: Cells along each side of a mask of RISE, before it is enlarged.
        steps: Steps of integrated gradients, and of each deletion and insertion curve.
        levels: Levels that the CAM methods read; by default those that `levels_of` chooses.
        faithfulness: Whether to measure deletion and insertion.
        check: Whether to compare the map with that of a model with random weights.
        seed: Of every random choice.
    """

    masks: int = 500
    grid: int = 8
    steps: int = 16
    levels: Sequence[str] = ()
    faithfulness: bool = True
    check: bool = True
    seed: int = 0
