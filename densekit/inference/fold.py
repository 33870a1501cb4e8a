"""Copies of models for inference, which compute once what depends on the weights alone.

A batch norm is folded into the convolution or linear layer before it. A module that computes with
its weights before it applies them may define `for_inference()`, which returns an equal module for
weights that no longer change.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils.fusion import fuse_conv_bn_weights

from densekit.backbones.timm import TimmBackbone
from densekit.heads.embedding.head import Embedding
from densekit.heads.embedding.pooling import FlattenedMap
from densekit.layers import ConvNorm, FrozenBatchNorm
from densekit.model import DenseModel

log = logging.getLogger(__name__)

FOLDABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, _ConvTransposeNd)
"""Layers whose weight and bias can take the scale and the shift."""
SIDES = (64, 128, 256)
"""Sides of the image that a copy is tried on; the first that the model accepts is taken."""
TOLERANCE = 1e-6
"""Largest difference between outputs in float64, relative to the largest value of each output."""

Undo = Callable[[], None]


def folded(model: DenseModel) -> DenseModel:
    """Copies a model for inference, with batch norms folded into the layers before them.

    In eval mode a batch norm is a scale and a shift per channel. Merged into the weight and bias of
    the layer whose output it normalises, it saves a pass over every activation. A norm is folded if
    its input is the output of a convolution or linear layer, as found by running the copy, and if
    all outputs for a random image then stay the same in float64. Others are kept, for instance a
    norm before a convolution: the zeros that pad the convolution come after the norm. The result is
    exact up to the rounding of the merged weights.

    Args:
        model: Any model, left unchanged.

    Returns:
        A deep copy in eval mode, on the same device and of the same dtype, without gradients and
        without the class centres of embeddings. Its state dict is no longer the model's.
    """
    like = model.mean
    # class centres may be larger than all the rest, and no prediction reads them
    centres: dict[int, Any] = {
        id(head.classifier): None for head in model.heads.values() if isinstance(head, Embedding)
    }
    exact = copy.deepcopy(model, centres).eval().requires_grad_(False).to("cpu", torch.float64)
    found = _first_outputs(exact)
    if found is None:
        log.info("batch norms are kept: the model accepts no random image of %s pixels", SIDES)
        return copy.deepcopy(model).eval().requires_grad_(False)
    inputs, expected = found
    _thaw(exact)

    def is_same() -> bool:
        return _agree(_flat(exact(*inputs)), expected)

    with torch.no_grad():
        _fold_all(exact, _pairs(exact, inputs), is_same)
        _fix(exact)
    return exact.to(like.device, like.dtype)


def _fix(model: nn.Module) -> None:
    """Puts the form for constant weights in the place of every module that has one."""
    for module in list(model.modules()):
        if callable(make := getattr(module, "for_inference", None)):
            _replace(model, module, make())


def _first_outputs(model: DenseModel) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]] | None:
    """A random image and its size, and the outputs for it; None if no image is accepted."""
    generator = torch.Generator().manual_seed(0)
    for sides in _sides(model):
        shape = (1, model.mean.shape[1], *sides)
        image = torch.rand(shape, generator=generator, dtype=torch.float64) * model.full_scale
        inputs = image, torch.tensor([sides])
        try:
            with torch.no_grad():
                return inputs, _flat(model(*inputs))
        except (ValueError, RuntimeError):  # a fixed or a larger size
            continue
    return None


def _sides(model: DenseModel) -> Iterator[tuple[int, ...]]:
    """Sides to try, first those that a part of the model demands."""
    for module in model.modules():
        if isinstance(module, TimmBackbone) and module.only is not None:
            yield module.only
        elif isinstance(module, FlattenedMap):
            yield module.size
    for side in SIDES:
        yield (side,) * model.spatial_dims


def _flat(outputs: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    return {f"{name}/{key}": x for name, head in outputs.items() for key, x in head.items()}


def _agree(outputs: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    """Whether all outputs are equal up to rounding; NaN is equal to nothing."""
    for key, value in expected.items():
        found, value = outputs[key].double(), value.double()
        scale = float(value.nan_to_num(0, 0, 0).abs().max()) if value.numel() else 0.0
        if not torch.allclose(found, value, rtol=0, atol=TOLERANCE * scale):
            return False
    return True


class _ConstantNorm(_BatchNorm):
    """A frozen batch norm as one of torch's, for maps of any number of dimensions."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        pass


def _thaw(model: nn.Module) -> None:
    """Replaces frozen batch norms, which their convolutions fold in every call, by torch's."""
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, FrozenBatchNorm):
                thawed = _ConstantNorm(len(norm.weight), norm.eps, dtype=norm.weight.dtype)
                thawed.load_state_dict(norm.state_dict(), strict=False)  # without the counter
                setattr(parent, name, thawed.eval().requires_grad_(False))


def _pairs(model: DenseModel, inputs: tuple[Tensor, Tensor]) -> dict[_BatchNorm, nn.Module]:
    """Finds the layer whose output each norm normalises, for norms that always read the same."""
    made: dict[int, tuple[Tensor, int, nn.Module]] = {}
    read: dict[_BatchNorm, set[nn.Module | None]] = {}

    def after(layer: nn.Module, args: Any, output: Tensor) -> None:
        made[id(output)] = output, output._version, layer

    def before(norm: nn.Module, args: tuple[Tensor]) -> None:
        output, version, layer = made.get(id(args[0]), (None, 0, None))
        unchanged = output is args[0] and args[0]._version == version
        read.setdefault(norm, set()).add(layer if unchanged else None)  # type: ignore[arg-type]

    hooks = []
    for module in model.modules():
        if isinstance(module, FOLDABLE):
            hooks.append(module.register_forward_hook(after))
        elif isinstance(module, _BatchNorm) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(before))
    model(*inputs)
    for hook in hooks:
        hook.remove()
    for module in model.modules():  # a convolution that its owner calls by its weight
        if isinstance(module, ConvNorm) and len(module) == 2 and module[1] in read:
            read[module[1]] = {module[0]}
    single = {norm: layers.pop() for norm, layers in read.items() if len(layers) == 1}
    return {norm: layer for norm, layer in single.items() if layer and _can_fold(layer)}


def _can_fold(layer: nn.Module) -> bool:
    """Whether the layer's weight has one axis of all output channels."""
    grouped = isinstance(layer, _ConvTransposeNd) and layer.groups > 1
    return isinstance(layer, FOLDABLE) and not grouped


def _fold_all(
    model: DenseModel, pairs: dict[_BatchNorm, nn.Module], is_same: Callable[[], bool]
) -> None:
    """Folds all norms at once; if that changes an output, those that do not, one by one."""
    undo = [_fold(model, norm, layer) for norm, layer in pairs.items()]
    if is_same():
        return
    for take_back in reversed(undo):
        take_back()
    names = {module: name for name, module in model.named_modules()}
    for norm, layer in pairs.items():
        take_back = _fold(model, norm, layer)
        if not is_same():
            take_back()
            log.info("%s is kept: folding it would change the outputs", names[norm])


def _fold(model: nn.Module, norm: _BatchNorm, layer: Any) -> Undo:
    """Merges a norm into a layer; what a subclass of batch norm adds, its children, stays."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    before = layer.weight, layer.bias
    layer.weight, layer.bias = fuse_conv_bn_weights(
        *before,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=isinstance(layer, _ConvTransposeNd),
    )
    rest = nn.Sequential(*norm.children()) if list(norm.children()) else nn.Identity()
    _replace(model, norm, rest)

    def undo() -> None:
        layer.weight, layer.bias = before
        _replace(model, rest, norm)

    return undo


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replaces a module wherever it is used."""
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
