"""Contract tests of a backbone: its declarations against its behaviour."""

from __future__ import annotations

import copy
import pickle
from dataclasses import dataclass

import torch
from torch import Tensor

from densekit.backbones.base import Backbone
from densekit.testing.contract import Check, prove
from densekit.types import Features


@dataclass(frozen=True)
class BackboneSubject:
    """A backbone under test.

    Attributes:
        backbone: On the CPU; no check changes it.
        size: Edge of the test image, divisible by every stride.
    """

    backbone: Backbone
    size: int = 64

    def evaluating(self) -> Backbone:
        """Returns a copy in eval mode."""
        return copy.deepcopy(self.backbone).eval()

    def image(self, count: int = 2, margin: int = 0) -> Tensor:
        """Returns (count, C, *S) noise with sides `size` + `margin`, the same every time."""
        spec = self.backbone.features["c0"]
        shape = (count, spec.channels, *[self.size + margin] * spec.spatial_dims)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def check_backbone(backbone: Backbone, size: int = 64) -> None:
    """Runs every contract test on a backbone, which is not changed.

    Args:
        backbone: On the CPU.
        size: Edge of the test image, divisible by every stride.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
    """
    prove(BackboneSubject(backbone, size), CHECKS)


def check_backbone_graphs(backbone: Backbone, size: int = 64) -> None:
    """Checks that a backbone compiles and exports as one graph each, with equal results.

    Args:
        backbone: On the CPU; it is not changed.
        size: Edge of the test image, divisible by every stride.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
    """
    prove(BackboneSubject(backbone, size), GRAPH_CHECKS)


def _declares(subject: BackboneSubject) -> None:
    specs, divisor = subject.backbone.features, subject.backbone.size_divisor
    names = list(specs)
    first = 2 if "c1" not in specs else 1  # a network without a stem of its own begins with c2
    expected = ["c0", *(f"c{number}" for number in range(first, first + len(names) - 1))]
    assert names == expected, f"levels are {names}, expected {expected}"
    assert set(specs["c0"].stride) == {1}, f"c0 is the image, its stride is {specs['c0'].stride}"
    for finer, coarser in zip(names, names[1:], strict=False):
        pairs = zip(specs[finer].stride, specs[coarser].stride, strict=True)
        assert all(b % a == 0 for a, b in pairs), f"stride of {finer} does not divide {coarser}'s"
    assert isinstance(divisor, int), f"size_divisor is {divisor!r}, not an int"
    assert divisor >= 1, f"size_divisor is {divisor}"


def _leaves_image(subject: BackboneSubject) -> None:
    image = subject.image()
    given = image.clone()
    with torch.no_grad():
        features = subject.evaluating()(image)
    assert torch.equal(image, given), "forward changed its input image"
    assert features["c0"] is image, "c0 is not the image itself"


def _shapes(subject: BackboneSubject) -> None:
    backbone, image = subject.evaluating(), subject.image()
    larger = subject.image(1, backbone.size_divisor)
    for network, given, when in (
        (backbone, image, ""),
        (backbone, larger, " for a larger image"),
        (copy.deepcopy(backbone).train(), image, " in training mode"),
    ):
        with torch.no_grad():
            features = network(given)
        assert list(features) == list(network.features), f"forward returns {list(features)}{when}"
        for level, spec in network.features.items():
            sizes = [-(-n // step) for n, step in zip(given.shape[2:], spec.stride, strict=True)]
            expected, found = (len(given), spec.channels, *sizes), tuple(features[level].shape)
            assert found == expected, f"{level}{when} has shape {found}, its spec says {expected}"


def _bf16(subject: BackboneSubject) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = subject.evaluating()(subject.image())
    for level, value in features.items():
        assert value.isfinite().all(), f"{level} is not finite in bfloat16 autocast"


def _copies(subject: BackboneSubject) -> None:
    backbone, image = subject.evaluating(), subject.image()
    with torch.no_grad():
        copied = pickle.loads(pickle.dumps(backbone))
        _check_equal(backbone(image), copied(image), "a pickled copy")


def _gradients(subject: BackboneSubject) -> None:
    """Runs one backward pass from the deepest level in training mode."""
    network = copy.deepcopy(subject.backbone).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    features = network(subject.image())
    deepest = list(features)[-1]
    loss = features[deepest].square().mean()
    if loss.requires_grad:
        loss.backward()
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"{name} gets no gradient from {deepest}"
        else:
            assert parameter.grad is None, f"{name} is frozen and gets a gradient"
    for name in _frozen_buffers(network):
        after = network.state_dict()[name]
        assert torch.equal(after, before[name]), f"{name} of a frozen layer changed"


def _trims(subject: BackboneSubject) -> None:
    image = subject.image()
    with torch.no_grad():
        features = subject.evaluating()(image)
    for level in list(subject.backbone.features)[1:]:
        trimmed = subject.evaluating()
        trimmed.trim([level])
        assert list(trimmed.features)[-1] == level, f"trim([{level!r}]) kept {trimmed.features}"
        with torch.no_grad():
            expected = {name: features[name] for name in trimmed.features}
            _check_equal(expected, trimmed(image), "trimming")
        _gradients(BackboneSubject(trimmed, subject.size))


def _exports(subject: BackboneSubject) -> None:
    image = subject.image()
    exported = torch.export.export(subject.evaluating(), (image,)).module()
    with torch.no_grad():
        expected, found = subject.evaluating()(image), exported(image)
    assert list(found) == list(expected), f"the export returns {list(found)}"
    for level, value in expected.items():
        torch.testing.assert_close(found[level], value, msg=f"exporting changed {level}")


def _compiles(subject: BackboneSubject) -> None:
    torch._dynamo.reset()  # its cache of other networks counts towards the recompile limit
    eager, compiled = (copy.deepcopy(subject.backbone).train() for _ in range(2))
    gradients = []
    for network, run in (
        (eager, eager),
        (compiled, torch.compile(compiled, fullgraph=True, backend="aot_eager")),
    ):
        torch.manual_seed(0)
        list(run(subject.image()).values())[-1].square().mean().backward()
        gradients.append({n: p.grad for n, p in network.named_parameters() if p.grad is not None})
    assert list(gradients[0]) == list(gradients[1]), "compiling changed which weights get gradients"
    for name, value in gradients[0].items():
        message = f"compiling changed the gradient of {name}"
        torch.testing.assert_close(gradients[1][name], value, msg=message)
    for key, value in eager.state_dict().items():
        message = f"compiling changed {key}"
        torch.testing.assert_close(compiled.state_dict()[key], value, msg=message)


def _check_equal(expected: Features, found: Features, what: str) -> None:
    assert list(found) == list(expected), f"{what} returns {list(found)}, not {list(expected)}"
    for level, value in expected.items():
        assert torch.equal(found[level], value), f"{what} changed {level}"


def _frozen_buffers(network: Backbone) -> list[str]:
    """Names of the stored buffers of layers whose parameters are all frozen."""
    stored = network.state_dict()
    names = []
    for name, module in network.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            names += [f"{name}.{key}" for key, _ in module.named_buffers(recurse=False)]
    return [name for name in names if name in stored]


CHECKS = (
    Check(
        "declares",
        "`features` has c0, the image, and consecutive levels, each stride a multiple of the one"
        " before; `size_divisor` is a positive int",
        _declares,
    ),
    Check("leaves the image alone", "c0 is the input image itself, unchanged", _leaves_image),
    Check(
        "shapes",
        "every level has the shape of its spec, rounded up, at any multiple of `size_divisor`, in"
        " training and eval mode",
        _shapes,
    ),
    Check("bf16", "every level is finite under bfloat16 autocast", _bf16),
    Check("copies", "a pickled copy returns the same levels, bit for bit", _copies),
    Check(
        "gradients",
        "every parameter gets a gradient from the deepest level; frozen layers do not change",
        _gradients,
    ),
    Check(
        "trims",
        "trimmed to any level it returns the same levels, and every remaining parameter gets a"
        " gradient: DDP fails otherwise",
        _trims,
    ),
)
"""Requirements of every backbone."""

GRAPH_CHECKS = (
    Check("exports", "torch.export traces it in eval mode, with equal levels", _exports),
    Check("compiles", "torch.compile traces it as one graph, with equal gradients", _compiles),
)
"""Requirements for exporting and compiling a model."""
