"""What a backbone says of itself against what it does."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import Tensor

from densekit.backbones.base import Backbone
from densekit.types import Features


def check_backbone(backbone: Backbone, size: int = 64) -> None:
    """Compares what a backbone says of itself with what it does; the backbone stays as it was.

    Its levels have the shapes of their specs, in training and out of it, at sizes that its strides
    divide and at others that it accepts, of one image and in 16-bit autocast; what is frozen stays
    still; every other parameter gets a gradient, after trimming too; copies answer the same.

    Args:
        backbone: On the CPU.
        size: Edge of the test image, divisible by every stride.

    Raises:
        AssertionError: With the level or the parameter that breaks the contract.
    """
    backbone = copy.deepcopy(backbone).eval()
    _check_specs(backbone)
    image = _image(backbone, 2, size)
    given = image.clone()
    with torch.no_grad():
        features = backbone(image)
    assert torch.equal(image, given), "forward changed the image it was given"
    assert features["c0"] is image, "c0 is not the image itself"
    _check_shapes(backbone, features, image)
    with torch.no_grad():
        uneven = _image(backbone, 1, size + backbone.size_divisor)
        _check_shapes(backbone, backbone(uneven), uneven)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = backbone(image)
        _check_shapes(backbone, rounded, image)
        for level, value in rounded.items():
            assert value.isfinite().all(), f"{level} is not finite in bfloat16 autocast"
        _check_equal(features, pickle.loads(pickle.dumps(backbone))(image), "a pickled copy")
    _check_gradients(backbone, image)
    for level in list(backbone.features)[1:]:
        trimmed = copy.deepcopy(backbone)
        trimmed.trim([level])
        assert list(trimmed.features)[-1] == level, f"trim([{level!r}]) kept {trimmed.features}"
        with torch.no_grad():
            _check_equal({k: features[k] for k in trimmed.features}, trimmed(image), "trimming")
        _check_gradients(trimmed, image)


def check_backbone_graphs(backbone: Backbone, size: int = 64) -> None:
    """Compiles a training step and exports an evaluation as one graph each; both change nothing.

    Args:
        backbone: On the CPU; it stays as it was.
        size: Edge of the test image, divisible by every stride.

    Raises:
        AssertionError: With the level or the parameter that differs.
        Exception: torch's own, where the network is not one graph.
    """
    image = _image(backbone, 2, size)
    exported = torch.export.export(copy.deepcopy(backbone).eval(), (image,)).module()
    with torch.no_grad():
        expected = copy.deepcopy(backbone).eval()(image)
        found = exported(image)
    assert list(found) == list(expected), f"the export returns {list(found)}"
    for level, value in expected.items():
        torch.testing.assert_close(found[level], value, msg=f"exporting changed {level}")
    eager, compiled = (copy.deepcopy(backbone).train() for _ in range(2))
    gradients = []
    for network, run in (
        (eager, eager),
        (compiled, torch.compile(compiled, fullgraph=True, backend="aot_eager")),
    ):
        torch.manual_seed(0)
        list(run(image).values())[-1].square().mean().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert list(gradients[0]) == list(gradients[1]), "compiling changed what gets a gradient"
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, msg=f"compiling changed {name}'s")
    for key, value in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, msg=f"compiling moved {key}")


def _image(backbone: Backbone, count: int, size: int) -> Tensor:
    spec = backbone.features["c0"]
    shape = (count, spec.channels, *[size] * spec.spatial_dims)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _check_specs(backbone: Backbone) -> None:
    specs = backbone.features
    names = list(specs)
    first = 2 if "c1" not in specs else 1  # a network without a stem of its own begins with c2
    expected = ["c0", *(f"c{number}" for number in range(first, first + len(names) - 1))]
    assert names == expected, f"levels are {names}, expected {expected}"
    assert set(specs["c0"].stride) == {1}, f"c0 is the image, its stride is {specs['c0'].stride}"
    for finer, coarser in zip(names, names[1:], strict=False):
        pairs = zip(specs[finer].stride, specs[coarser].stride, strict=True)
        assert all(b % a == 0 for a, b in pairs), f"stride of {finer} does not divide {coarser}'s"


def _check_shapes(backbone: Backbone, features: Features, image: Tensor) -> None:
    assert list(features) == list(backbone.features), f"forward returns {list(features)}"
    for level, spec in backbone.features.items():
        sizes = [-(-n // step) for n, step in zip(image.shape[2:], spec.stride, strict=True)]
        expected = (len(image), spec.channels, *sizes)
        found = tuple(features[level].shape)
        assert found == expected, f"{level} is {found}, its spec says {expected}"


def _check_equal(expected: Features, found: Features, what: str) -> None:
    assert list(found) == list(expected), f"{what} gives {list(found)}, not {list(expected)}"
    for level, value in expected.items():
        assert torch.equal(found[level], value), f"{what} changed {level}"


def _check_gradients(backbone: Backbone, image: Tensor) -> None:
    """One training step's backward from the deepest level."""
    network = copy.deepcopy(backbone).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    features = network(image)
    _check_shapes(network, features, image)
    deepest = list(features)[-1]
    loss = features[deepest].square().mean()
    if loss.requires_grad:
        loss.backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} gets no gradient from {deepest}"
        else:
            assert parameter.grad is None, f"{name} is frozen and gets a gradient"
    for name, module in network.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own.values()):
            for key, _ in module.named_buffers(recurse=False):
                full = f"{name}.{key}"
                if full in before:
                    after = network.state_dict()[full]
                    assert torch.equal(after, before[full]), f"{full} of a frozen layer moved"
