"""Which modules of a model are gathered as one when its weights are divided over processes.

Each block of the backbone is a unit: its weights are whole only while it computes. All other
weights (stem, norms between stages, neck, heads) form the last unit, whole during the whole step: a
head may use its layers in any order and more than once, so it needs to know nothing of units.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from densekit.training.transfer import stages_of

if TYPE_CHECKING:
    from densekit.model import DenseModel

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def units_of(model: DenseModel) -> list[nn.Module]:
    """Returns the units of a model but the last: modules with parameters, none within another.

    They are gathered when they are called (`block(x)`). Some networks call a method of a block, or
    use the layers inside it: such blocks are left to the last unit.
    """
    names = [name for stage in stages_of(model) for name in stage]
    parts = [part for name in names for part in _blocks(model.get_submodule(name))]
    called = _called(model, parts) if parts else set()
    return [part for part in parts if part in called]


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yields the parts of a stage that consist of layers; containers of such parts are entered."""
    inner = [part for part in module.children() if _is_block(part)]
    if not inner and _is_block(module):
        yield module
    for part in inner:
        if isinstance(part, CONTAINERS) and any(map(_is_block, part.children())):
            yield from _blocks(part)
        else:
            yield part


def _is_block(module: nn.Module) -> bool:
    return any(map(_has_parameters, module.children()))


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _called(model: DenseModel, parts: Sequence[nn.Module]) -> set[nn.Module]:
    """The parts that are called when the backbone computes the levels of a small image."""
    levels = model.backbone.features.values()
    sides = [2 * max(strides) for strides in zip(*(spec.stride for spec in levels), strict=True)]
    sides = getattr(model.backbone, "only", None) or sides  # the only size that a network takes
    image = model.mean.new_zeros((1, model.mean.shape[1], *sides))
    found: set[nn.Module] = set()
    hooks = [part.register_forward_hook(lambda part, *_: found.add(part)) for part in parts]
    modes = {module: module.training for module in model.backbone.modules()}
    with torch.no_grad():
        model.backbone.eval()(image)
    for module, mode in modes.items():
        module.training = mode
    for hook in hooks:
        hook.remove()
    return found
