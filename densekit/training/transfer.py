"""Transfer learning: which parts of a model train, from when on, and how fast.

Papers: Howard and Ruder 2018, ULMFiT, section 3.3 (gradual unfreezing); Clark et al. 2020, ELECTRA,
section 3.1 (layer-wise learning-rate decay).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import nn

from densekit._names import nearest
from densekit.training.optim import is_within


class Part(NamedTuple):
    """How a part of a model trains.

    Attributes:
        name: Of its module.
        parameters: Number of its parameters.
        trained: Number of those that are not frozen.
        start: Share of the run, 0 to below 1, from which on they change.
        factor: Of their learning rate.
    """

    name: str
    parameters: int
    trained: int
    start: float = 0.0
    factor: float = 1.0


class Transfer:
    """Freezes parts of a model, unfreezes its backbone gradually, and scales learning rates.

    Parts are named like their modules: `backbone`, `backbone.layer2`, `heads.detection`. The stages
    of a backbone are its modules with parameters, in order, or those of the one module that holds
    them (timm's `blocks`); the modules before the first block form one stage, the stem.

    Args:
        frozen: Parts that never change, neither weights nor norm statistics.
        gradual: Share of the run, 0 to below 1, after which all stages of the backbone train: they
            start at equal intervals, the deepest first. Until then a stage has a learning rate of
            zero and keeps its norm statistics. 0: all train from the start.
        layer_decay: Factor of the learning rate from each stage of the backbone to the one before,
            applied once to the deepest. 1: all have the same rate.
        lr_multipliers: Part to an additional factor of its learning rate, `{"heads": 10}`.

    Raises:
        ValueError: A share or a factor is out of range.
    """

    def __init__(
        self,
        frozen: Sequence[str] = (),
        gradual: float = 0.0,
        layer_decay: float = 1.0,
        lr_multipliers: Mapping[str, float] | None = None,
    ) -> None:
        if not 0 <= gradual < 1:
            raise ValueError(f"transfer.gradual: expected 0 to below 1, got {gradual}")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"transfer.layer_decay: expected above 0 to 1, got {layer_decay}")
        self.frozen, self.gradual, self.layer_decay = tuple(frozen), gradual, layer_decay
        self.multipliers = dict(lr_multipliers or {})

    def freeze(self, model: nn.Module) -> None:
        """Turns off gradients of the frozen parts; call it before the model is wrapped for DDP.

        Raises:
            ValueError: The model has no such part.
        """
        for part in self._frozen(model):
            part.requires_grad_(False)

    def hold(self, model: nn.Module, share: float) -> None:
        """Puts parts that do not train, or not yet, into eval mode.

        Args:
            model: In training mode.
            share: Completed share of the run.
        """
        for part in self._frozen(model):
            part.eval()
        for name, start in self.starts(model).items():
            if share < start:
                model.get_submodule(name).eval()

    def starts(self, model: nn.Module) -> dict[str, float]:
        """Returns, for parts that start late, the share of the run at which they start."""
        if not self.gradual:
            return {}
        stages = list(stages_of(model))[::-1]  # deepest first
        return {
            name: self.gradual * (number + 1) / len(stages)
            for number, stage in enumerate(stages)
            for name in stage
        }

    def lr_multipliers(self, model: nn.Module) -> dict[str, float]:
        """Returns part to factor of its learning rate, for every part that starts late too.

        The factor of a stage includes the multiplier configured for it or a module around it.
        """
        stages = list(stages_of(model))[::-1] if self.gradual or self.layer_decay < 1 else []
        factors = dict(self.multipliers)
        for number, stage in enumerate(stages):
            for name in stage:
                around = [part for part in self.multipliers if is_within(name, part)]
                own = self.multipliers.get(max(around, key=len, default=""), 1.0)
                if any(p.requires_grad for p in model.get_submodule(name).parameters()):
                    factors[name] = self.layer_decay ** (number + 1) * own
        return factors

    def parts(self, model: nn.Module) -> list[Part]:
        """Returns how each stage of the backbone, the neck and each head of a model trains."""
        starts, factors = self.starts(model), self.lr_multipliers(model)
        parts = []
        for name in _parts(model):
            parameters = list(model.get_submodule(name).parameters())
            parts.append(
                Part(
                    name,
                    sum(p.numel() for p in parameters),
                    sum(p.numel() for p in parameters if p.requires_grad),
                    starts.get(name, 0.0),
                    factors.get(name, factors.get(name.partition(".")[0], 1.0)),
                )
            )
        return parts

    def _frozen(self, model: nn.Module) -> Iterator[nn.Module]:
        for name in self.frozen:
            try:
                yield model.get_submodule(name)
            except AttributeError:
                hint = nearest(name, [n for n, _ in model.named_modules()])
                parts = ", ".join(_parts(model))
                raise ValueError(
                    f"transfer.frozen: expected a part of the model ({parts}, or one of theirs),"
                    f" got {name!r}{hint}"
                ) from None


def stages_of(model: nn.Module) -> Iterator[list[str]]:
    """Yields the names of the modules of each stage of the backbone, the stem first."""
    stem, tail, prefix = list[str](), list[str](), "backbone"
    children = _with_parameters(model.get_submodule(prefix))
    while (index := _stages_module(children)) is not None:
        names = [f"{prefix}.{name}" for name, _ in children]
        stem, tail = stem + names[:index], names[index + 1 :] + tail
        prefix, children = names[index], _with_parameters(children[index][1])
    stages = [stem]
    for name, child in children:
        if _with_parameters(child):
            stages.append([])
        stages[-1].append(f"{prefix}.{name}")  # a norm belongs to the stage before it
    stages[-1] += tail
    yield from filter(None, stages)


def _stages_module(children: Sequence[tuple[str, nn.Module]]) -> int | None:
    """Index of the module that contains the stages, None if the modules are stages themselves.

    It is the only module, or the only one made of blocks of blocks: timm's `blocks` and `stages`.
    """
    inner = [_with_parameters(child) for _, child in children]
    if len(children) == 1:
        return 0 if inner[0] else None
    deep = [index for index, of_child in enumerate(inner) if _are_blocks(of_child)]
    if len(deep) == 1 and all(_are_blocks(_with_parameters(m)) for _, m in inner[deep[0]]):
        return deep[0]
    return None


def _are_blocks(children: Sequence[tuple[str, nn.Module]]) -> bool:
    return any(_with_parameters(child) for _, child in children)


def _with_parameters(module: nn.Module) -> list[tuple[str, nn.Module]]:
    children = module.named_children()
    return [(name, child) for name, child in children if next(child.parameters(), None) is not None]


def _parts(model: nn.Module) -> Iterator[str]:
    """Names of the stages of the backbone, the neck and the heads."""
    for stage in stages_of(model):
        yield from stage
    for name, child in _with_parameters(model):
        if name == "heads":
            yield from (f"heads.{head}" for head, _ in _with_parameters(child))
        elif name != "backbone":
            yield name
