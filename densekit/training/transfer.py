"""Which parts of a model train, from when on, and how fast: transfer learning as one setting.

Papers: Howard and Ruder 2018, ULMFiT, section 3.3 (gradual unfreezing); Clark et al. 2020, ELECTRA,
section 3.1 (rates that fall from layer to layer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from densekit._names import nearest
from densekit.training.optim import below


class Transfer:
    """The parts of a model that are spared.

    A part is named as its module is, `backbone`, `backbone.layer2`, `heads.detection`. The stages
    of a backbone are its modules that have parameters, in their order, or those of the one module
    that holds them (timm's `blocks`); what stands before the first block is one, the stem.

    Args:
        frozen: Parts that stay as they are, weights and statistics of norms.
        gradual: Share of the run, 0 to 1, by whose end all stages of the backbone train: the
            deepest starts after an equal part of it, then one after the other. Until then a stage
            has a learning rate of zero and the statistics it came with. 0: all from the start.
        layer_decay: Factor of the learning rate from each stage of the backbone to the one before;
            the deepest has it once. 1: all alike.
        lr_multipliers: Part to a further factor of its learning rate, `{"heads": 10}`.

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
            raise ValueError(f"transfer.gradual: found {gradual}, accepted is 0 to below 1")
        if not 0 < layer_decay <= 1:
            raise ValueError(f"transfer.layer_decay: found {layer_decay}, accepted is above 0 to 1")
        self.frozen, self.gradual, self.layer_decay = tuple(frozen), gradual, layer_decay
        self.given = dict(lr_multipliers or {})

    def freeze(self, model: nn.Module) -> None:
        """Takes the gradient off the frozen parts; before the model is wrapped for DDP.

        Raises:
            ValueError: A part is not there.
        """
        for part in self._frozen(model):
            part.requires_grad_(False)

    def hold(self, model: nn.Module, share: float) -> None:
        """Puts what does not train yet, or never, out of training mode.

        Args:
            model: In training mode.
            share: Of the run that is over.
        """
        for part in self._frozen(model):
            part.eval()
        for name, start in self.starts(model).items():
            if share < start:
                model.get_submodule(name).eval()

    def starts(self, model: nn.Module) -> dict[str, float]:
        """Part to the share of the run at which it starts, of the parts that start late."""
        if not self.gradual:
            return {}
        stages = list(_stages(model))[::-1]  # deepest first
        return {
            name: self.gradual * (number + 1) / len(stages)
            for number, stage in enumerate(stages)
            for name in stage
        }

    def lr_multipliers(self, model: nn.Module) -> dict[str, float]:
        """Part to the factor of its learning rate; every part that starts late has one, too.

        That of a stage is times the one that is given for it or for what it is in.
        """
        stages = list(_stages(model))[::-1] if self.gradual or self.layer_decay < 1 else []
        factors = dict(self.given)
        for number, stage in enumerate(stages):
            for name in stage:
                above = max((part for part in self.given if below(name, part)), key=len, default="")
                if any(p.requires_grad for p in model.get_submodule(name).parameters()):
                    factors[name] = self.layer_decay ** (number + 1) * self.given.get(above, 1.0)
        return factors

    def table(self, model: nn.Module) -> list[str]:
        """A line a part of the model: parameters, whether they train, from when, how fast."""
        lines, starts, factors = [], self.starts(model), self.lr_multipliers(model)
        for name in _parts(model):
            parameters = list(model.get_submodule(name).parameters())
            trained = sum(p.numel() for p in parameters if p.requires_grad)
            total = sum(p.numel() for p in parameters)
            line = f"{name}: {trained:,} of {total:,} parameters train"
            if start := starts.get(name):
                line += f" from {start:.0%} of the run on"
            factor = factors.get(name, 1.0)
            lines.append(line + (f", learning rate x {factor:.3g}" if factor != 1 else ""))
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        total = sum(p.numel() for p in model.parameters())
        lines.append(f"model: {trained:,} of {total:,} parameters train")
        return lines

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


def _stages(model: nn.Module) -> Iterator[list[str]]:
    """Names of the modules of each stage of the backbone, the stem first."""
    stem, tail, prefix = list[str](), list[str](), "backbone"
    children = _with_parameters(model.get_submodule(prefix))
    while (place := _holder(children)) is not None:
        names = [f"{prefix}.{name}" for name, _ in children]
        stem, tail = stem + names[:place], names[place + 1 :] + tail
        prefix, children = names[place], _with_parameters(children[place][1])
    stages = [stem]
    for name, child in children:
        if _with_parameters(child):
            stages.append([])
        stages[-1].append(f"{prefix}.{name}")  # a norm goes with what it stands behind
    stages[-1] += tail
    yield from filter(None, stages)


def _holder(children: Sequence[tuple[str, nn.Module]]) -> int | None:
    """Place of the module that holds the stages, None where the modules are stages themselves.

    It is the only one, or the only one of blocks of blocks: timm's `blocks` and `stages`.
    """
    inner = [_with_parameters(child) for _, child in children]
    if len(children) == 1:
        return 0 if inner[0] else None
    deep = [place for place, of_child in enumerate(inner) if _are_blocks(of_child)]
    if len(deep) == 1 and all(_are_blocks(_with_parameters(m)) for _, m in inner[deep[0]]):
        return deep[0]
    return None


def _are_blocks(children: Sequence[tuple[str, nn.Module]]) -> bool:
    return any(_with_parameters(child) for _, child in children)


def _with_parameters(module: nn.Module) -> list[tuple[str, nn.Module]]:
    children = module.named_children()
    return [(name, child) for name, child in children if next(child.parameters(), None) is not None]


def _parts(model: nn.Module) -> Iterator[str]:
    """Stages of the backbone, the neck, the heads."""
    for stage in _stages(model):
        yield from stage
    for name, child in _with_parameters(model):
        if name == "heads":
            yield from (f"heads.{head}" for head, _ in _with_parameters(child))
        elif name != "backbone":
            yield name
