"""Contract tests of a neck: the levels it declares against those it adds."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from densekit.necks.base import Neck
from densekit.testing.contract import Check, prove
from densekit.types import Features, Specs

NeckMaker = Callable[..., Neck]


@dataclass(frozen=True)
class NeckSubject:
    """A neck under test.

    Attributes:
        make: Builds it from the specs of a backbone and the levels that are read.
        features: The specs of the backbone.
    """

    make: NeckMaker
    features: Specs

    def neck(self, *levels: str) -> Neck:
        """Builds a neck for these levels, with the same weights every time."""
        torch.manual_seed(0)
        return self.make(self.features, reads=levels)

    def all(self) -> Neck:
        """Builds a neck for every level it could add."""
        return self.neck(*self.make(self.features).specs)

    def cases(self) -> Iterator[Neck]:
        """Builds one neck per level, and one for all levels."""
        for level in self.make(self.features).specs:
            yield self.neck(level)
        yield self.all()

    def levels(self, multiple: int = 1) -> Features:
        """Noise at every level of the backbone, for an image `multiple` times the least size."""
        generator = torch.Generator().manual_seed(0)
        coarsest = max(max(spec.stride) for spec in self.features.values())
        least = max(coarsest, self.all().size_divisor)
        return {
            name: torch.randn(
                (2, spec.channels, *(2 * least * multiple // step for step in spec.stride)),
                generator=generator,
            )
            for name, spec in self.features.items()
        }


def check_neck(make: NeckMaker, features: Specs | None = None) -> None:
    """Runs every contract test on a neck.

    Args:
        make: Class or partial of a neck, `partial(MyNeck, out_channels=64)`.
        features: Specs of the backbone below, by default those of a thin ResNet-18.

    Raises:
        AssertionError: Names each failed check, its requirement and what was found.
    """
    if features is None:
        from densekit.backbones import ResNet

        features = ResNet(18, width=8).features
    prove(NeckSubject(make, features), CHECKS)


def _declares(subject: NeckSubject) -> None:
    neck = subject.make(subject.features)
    assert not list(neck.parameters()), "it has parameters although built without `reads`"
    assert neck.specs, "specs is empty"
    taken = sorted(set(neck.specs) & set(subject.features))
    assert not taken, f"specs has {taken}, which are levels of the backbone"
    dims = subject.features["c0"].spatial_dims
    for level, spec in neck.specs.items():
        assert spec.spatial_dims == dims, f"{level} has strides {spec.stride} for {dims} axes"
    for one in subject.cases():
        assert one.specs == neck.specs, f"specs depends on `reads`: {one.specs}"
        divisor = one.size_divisor
        assert isinstance(divisor, int), f"size_divisor is {divisor!r}, not an int"
        assert divisor >= 1, f"size_divisor is {divisor}"


def _adds(subject: NeckSubject) -> None:
    levels = subject.levels()
    given = {name: value.clone() for name, value in levels.items()}
    for neck in subject.cases():
        with torch.no_grad():
            found = neck.eval()(dict(levels))
        expected = sorted({*levels, *neck.levels})
        assert sorted(found) == expected, (
            f"forward: expected levels {expected}, got {sorted(found)}"
        )
        for name, value in levels.items():
            assert found[name] is value, f"{name} is not the input level itself"
            assert torch.equal(value, given[name]), f"{name} was changed in place"


def _shapes(subject: NeckSubject) -> None:
    for neck in subject.cases():
        for multiple in (1, 2):
            levels = subject.levels(multiple)
            image = levels["c0"].shape
            for when in (True, False):
                with torch.no_grad():
                    found = neck.train(when)(dict(levels))
                for level in neck.levels:
                    spec = neck.specs[level]
                    sides = (-(-n // s) for n, s in zip(image[2:], spec.stride, strict=True))
                    expected = (image[0], spec.channels, *sides)
                    shape = tuple(found[level].shape)
                    assert shape == expected, f"{level} has shape {shape}, its spec says {expected}"


def _reads(subject: NeckSubject) -> None:
    levels = subject.levels()
    for neck in subject.cases():
        unknown = sorted(set(neck.reads) - set(levels))
        assert not unknown, f"reads {unknown}, which the backbone does not have"
        read = {name: levels[name].clone().requires_grad_() for name in neck.reads}
        try:
            found = neck.eval()(dict(read))
        except KeyError as error:
            raise AssertionError(f"{error} is used but not in reads, {list(neck.reads)}") from None
        _sum(found, neck).backward()
        unused = [name for name, value in read.items() if value.grad is None]
        assert not unused, f"reads has {unused}, which {list(neck.levels)} do not depend on"


def _gradients(subject: NeckSubject) -> None:
    for neck in subject.cases():
        _sum(neck.train()(subject.levels()), neck).backward()
        missing = [name for name, value in neck.named_parameters() if value.grad is None]
        assert not missing, f"no gradient for {missing[:5]} when {list(neck.levels)} are read"


def _bf16(subject: NeckSubject) -> None:
    neck = subject.all().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = neck(subject.levels())
    wild = [level for level in neck.levels if not bool(found[level].isfinite().all())]
    assert not wild, f"{wild} are not finite under bfloat16 autocast"


def _copies(subject: NeckSubject) -> None:
    neck, levels = subject.all().eval(), subject.levels()
    with torch.no_grad():
        expected = neck(dict(levels))
        for what, copied in (
            ("a pickled copy", pickle.loads(pickle.dumps(neck))),
            ("a deep copy", copy.deepcopy(neck)),
        ):
            found = copied(dict(levels))
            other = [name for name in neck.levels if not torch.equal(found[name], expected[name])]
            assert not other, f"{what} returns different {other}"


def _one_graph(subject: NeckSubject) -> None:
    neck, levels = subject.all().eval(), subject.levels()
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(neck, backend="eager", fullgraph=True)(dict(levels))
        torch.testing.assert_close(found, neck(dict(levels)))


def _sum(found: Features, neck: Neck) -> Tensor:
    return torch.stack([found[level].square().mean() for level in neck.levels]).sum()


CHECKS = (
    Check(
        "declares",
        "built without `reads` it has no layers, and `specs` declares every level it could add;"
        " `size_divisor` is a positive int",
        _declares,
    ),
    Check(
        "adds and removes nothing",
        "forward returns the input levels themselves, unchanged, and those that are read",
        _adds,
    ),
    Check("shapes", "every level has the shape of its spec, rounded up", _shapes),
    Check(
        "reads",
        "`reads` names exactly the levels that forward uses, as others are not computed",
        _reads,
    ),
    Check(
        "gradients",
        "whichever levels are read, every parameter gets a gradient: DDP fails otherwise",
        _gradients,
    ),
    Check("bf16", "every level is finite under bfloat16 autocast", _bf16),
    Check("copies", "a copy returns the same levels, bit for bit", _copies),
    Check("one graph", "torch.compile traces it as one graph, with equal levels", _one_graph),
)
"""Requirements of every neck."""
