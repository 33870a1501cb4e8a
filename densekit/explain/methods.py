"""The table of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from densekit.explain.gradients import gradcam, integrated_gradients, layercam
from densekit.explain.rise import rise
from densekit.explain.settings import Settings
from densekit.explain.subject import Subject
from densekit.explain.target import Target

Compute = Callable[[Subject, Target, Settings], Tensor]
"""Returns the saliency (*S) in the network's frame, larger where pixels speak for the target."""


@dataclass(frozen=True)
class Method:
    """One way to explain.

    Attributes:
        compute: Returns the map.
        passes: Images that it predicts for one map.
        needs_gradients: Whether it needs the model itself, in float32, and not an engine.
        dims: Numbers of spatial dimensions that it takes.
    """

    compute: Compute
    passes: Callable[[Settings], int]
    needs_gradients: bool = True
    dims: tuple[int, ...] = (1, 2, 3)


METHODS = {
    "gradcam": Method(gradcam, lambda _: 1),
    "layercam": Method(layercam, lambda _: 1),
    "integrated_gradients": Method(integrated_gradients, lambda settings: settings.steps),
    "rise": Method(rise, lambda settings: settings.masks, needs_gradients=False, dims=(2,)),
}
