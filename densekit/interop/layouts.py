"""All layouts of other libraries' state dicts, and the choice of the one that fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from densekit.backbones.values import check_values
from densekit.interop import (
    detectron2,
    insightface,
    mmdet,
    mmseg,
    plain_resnet,
    smp,
    torchvision_detection,
    torchvision_fcos,
    torchvision_retinanet,
    torchvision_segmentation,
)
from densekit.interop.conversion import Conversion, without_parts
from densekit.interop.openmmlab import Recipe
from densekit.interop.unconverted import what_it_is


class Layout(Protocol):
    """A module of this package that converts the state dicts of one library's kind of model."""

    def matches(self, state: Mapping[str, Tensor]) -> bool:
        """Whether the names of the tensors are those of this layout."""
        ...

    def convert(
        self, state: Mapping[str, Tensor], names: Sequence[str] | None = None
    ) -> Conversion:
        """Converts all tensors, or raises ValueError with the names of those without a place."""
        ...


class OpenMMLabLayout(Layout, Protocol):
    """A layout whose files carry the configuration that the network was trained with."""

    def convert(
        self,
        state: Mapping[str, Tensor],
        names: Sequence[str] | None = None,
        *,
        recipe: Recipe = ...,
    ) -> Conversion:
        """Converts all tensors; `recipe` is what the file says besides them."""
        ...


OPENMMLAB: tuple[OpenMMLabLayout, ...] = (mmdet, mmseg)
LAYOUTS: tuple[Layout, ...] = (
    detectron2,
    torchvision_detection,
    torchvision_fcos,
    torchvision_retinanet,
    torchvision_segmentation,
    insightface,
    smp,
    plain_resnet,
)
"""Tried in this order; a plain ResNet, which others have as a part, comes last."""


def convert_state(
    state: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    leave: Sequence[str] = (),
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
) -> Conversion:
    """Converts a state dict of any known layout.

    Args:
        state: Tensors by name.
        names: Class names, without a background for detectors; those of the recipe by default, else
            numbered.
        leave: Modules of the source to leave out, which densekit does not have.
        recipe: What the source says besides its tensors.

    Raises:
        ValueError: No layout has these names, or the tensors cannot be converted whole.
    """
    kept, left = without_parts("source", state, leave)
    check_values("source", kept)
    try:
        found = _convert(kept, names or recipe.names, recipe)
    except (IndexError, KeyError, RuntimeError, TypeError, ZeroDivisionError) as error:
        # The layers' sizes are computed from shapes, and a strange file may have any.
        raise ValueError(
            f"source: expected tensors of the shapes of their layers, got others ({error})"
        ) from error
    return replace(found, left={**found.left, **left})


def _convert(
    state: Mapping[str, Tensor], names: Sequence[str] | None, recipe: Recipe
) -> Conversion:
    for openmmlab in OPENMMLAB:
        if openmmlab.matches(state):
            return openmmlab.convert(state, names, recipe=recipe)
    for layout in LAYOUTS:
        if layout.matches(state):
            return layout.convert(state, names)
    raise ValueError(
        f"source: expected tensors of a known library (docs/convert.md), got {what_it_is(state)}"
    )
