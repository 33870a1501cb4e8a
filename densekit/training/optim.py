"""Parameter groups and the optimiser.

Weight decay applies to weights of convolutions and linear layers; on biases and the scales of
normalisation layers, which have one axis, it only costs accuracy (He et al., Bag of Tricks, section
3.1), so those form groups of their own without decay.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from densekit._names import nearest
from densekit.ops.dist import own_part
from densekit.training.schedules import Schedule, check_end
from densekit.training.sources import sources_of

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

OptimizerFactory = Callable[..., Optimizer]
"""An optimiser class with its settings bound, e.g. `partial(torch.optim.SGD, lr=0.02)`."""


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    lr: float,
    lr_multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Groups the trainable parameters by weight decay and learning rate.

    Args:
        model: Its frozen parameters (`requires_grad` false) are left out.
        weight_decay: Decay of weights with two or more axes; the others have none.
        lr: Learning rate of the parameters without a multiplier.
        lr_multipliers: Prefix of parameter names to a factor of `lr`, e.g. `{"backbone": 0.1}`;
            the longest matching prefix wins.

    Returns:
        Groups for a torch optimiser, each with `name`, `params`, `weight_decay` and `lr`.

    Raises:
        ValueError: A prefix matches no trainable parameter, or nothing is trainable.
    """
    multipliers = dict(lr_multipliers or {})
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("transfer.frozen: expected a trainable parameter, got only frozen ones")
    _check_prefixes(multipliers, trainable)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in trainable.items():
        prefix = max((p for p in multipliers if is_within(name, p)), key=len, default="")
        decay = weight_decay if parameter.ndim > 1 else 0.0
        key = ".".join(filter(None, (prefix, "decay" if parameter.ndim > 1 else "no_decay")))
        factor = multipliers.get(prefix, 1.0)
        group = groups.setdefault(
            key, {"name": key, "params": [], "weight_decay": decay, "lr": lr * factor}
        )
        group["params"].append(parameter)
    return list(groups.values())


def build_optimizer(
    factory: OptimizerFactory,
    model: nn.Module,
    *,
    more: Iterable[nn.Parameter] = (),
    lr_scale: float = 1.0,
    lr_multipliers: Mapping[str, float] | None = None,
    fused: bool = True,
) -> Optimizer:
    """Builds the optimiser of the trainable parameters.

    Args:
        factory: See `OptimizerFactory`; its `lr` and `weight_decay` become those of the groups.
        model: Its parameters are on the device they are trained on.
        more: Additional parameters, without decay.
        lr_scale: Factor of every learning rate.
        lr_multipliers: See `parameter_groups`.
        fused: Whether to use the optimiser's fused kernel if it has one and its settings choose no
            implementation. Parameters that are divided over processes have none: they are updated
            together (`foreach`).
    """
    lr = setting(factory, "lr") * lr_scale
    groups = parameter_groups(model, setting(factory, "weight_decay"), lr, lr_multipliers)
    if beside := list(more):
        groups.append({"name": "beside", "params": beside, "weight_decay": 0.0, "lr": lr})
    extra: dict[str, Any] = {}
    divided = any(own_part(parameter) is not parameter for parameter in model.parameters())
    kernel = "foreach" if divided else "fused"
    if fused and _offers(factory, kernel):
        extra[kernel] = True
    try:
        return factory(groups, **extra)
    except RuntimeError:
        if not extra:
            raise
        return factory(groups)  # the fused kernel does not support the device or dtype


def batch_size_scale(trainer: Trainer, base_batch_size: int | None) -> float:
    """Factor that scales a learning rate to the actual number of images per optimiser step.

    The linear scaling rule of Goyal et al., Accurate, Large Minibatch SGD, section 2.1.

    Args:
        trainer: Its data module's sources have a `batch_size`, in images per process.
        base_batch_size: Images per optimiser step that the learning rate is stated for; None for a
            factor of 1.

    Raises:
        ValueError: `base_batch_size` is not positive.
        TypeError: The data module does not declare its batch sizes.
    """
    if base_batch_size is None:
        return 1.0
    if base_batch_size < 1:
        raise ValueError(f"base_batch_size: expected at least 1, or null, got {base_batch_size}")
    sources = sources_of(trainer)
    if not sources:
        raise TypeError("base_batch_size: expected a data module with `sources`, got one without")
    trained = [source for source in sources.values() if source.train is not None]
    images = sum(source.batch_size for source in trained)
    real = images * trainer.world_size * trainer.accumulate_grad_batches
    scale = float(real / base_batch_size)
    rank_zero_info(
        f"Learning rate x {scale:g}: {images} images x {trainer.world_size} processes x "
        f"{trainer.accumulate_grad_batches} accumulated = {real} per step; configured for "
        f"{base_batch_size}"
    )
    return scale


def by_step(
    trainer: Trainer,
    optimizer: Optimizer,
    schedule: Schedule,
    starts: Mapping[str, float] | None = None,
) -> OptimizerLRSchedulerConfig:
    """Pairs an optimiser with a schedule that is applied at every optimiser step.

    Args:
        trainer: Knows the length of the run.
        optimizer: Its groups have names, see `parameter_groups`.
        schedule: Factor of every learning rate by step.
        starts: Prefix of a group's name to the share of the run before which its rate is zero.

    Raises:
        ValueError: The run has no end, and the schedule or a start depends on it.
    """

    def factor(start: float, step: int) -> float:
        # Step 0 is evaluated before the loaders exist. Creating them here to know the length would
        # be too early for Lightning to restore their state in a resumed run.
        total = trainer.estimated_stepping_batches if step > 0 else sys.maxsize
        begun = not start or step >= start * total  # the total may be infinite
        return schedule(step, total) if begun else 0.0

    if endless(trainer):
        check_end(schedule, (starts or {}).values())
    shares = [
        max((share for part, share in (starts or {}).items() if is_within(name, part)), default=0.0)
        for name in (group["name"] for group in optimizer.param_groups)
    ]
    factors: list[Callable[[int], float]] = [functools.partial(factor, s) for s in shares]
    scheduler: Any = {"scheduler": LambdaLR(optimizer, factors), "interval": "step"}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


def group_settings(optimizer: Optimizer) -> list[tuple[float, float]]:
    """Base learning rate and weight decay of each group of a new optimiser with its schedule."""
    return [(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups]


def apply_group_settings(scheduler: LambdaLR, settings: Iterable[tuple[float, float]]) -> None:
    """Gives the optimiser of a resumed run its configured rates and decays, at its current step.

    The checkpoint has restored the learning rate, its schedule and the decay of the earlier run.

    Args:
        scheduler: Restored, with its optimiser.
        settings: Result of `group_settings` before the checkpoint was restored.
    """
    groups = scheduler.optimizer.param_groups
    for index, (group, (lr, decay)) in enumerate(zip(groups, settings, strict=True)):
        factor = scheduler.lr_lambdas[index](scheduler.last_epoch)
        group.update(initial_lr=lr, lr=lr * factor, weight_decay=decay)
        scheduler.base_lrs[index] = lr


def endless(trainer: Trainer) -> bool:
    """Whether a run has neither a last epoch nor a last step."""
    return trainer.max_epochs in (-1, None) and trainer.max_steps == -1


def setting(factory: OptimizerFactory, name: str) -> float:
    """A numeric setting: bound by `partial`, else the default in the signature, else 0."""
    bound = factory.keywords if isinstance(factory, functools.partial) else {}
    if name in bound:
        return float(bound[name])
    parameter = inspect.signature(factory).parameters.get(name)
    if parameter is None or parameter.default is inspect.Parameter.empty:
        if name == "lr":
            raise ValueError("optimizer.lr: expected a learning rate, got none")
        return 0.0
    return float(parameter.default)


def _offers(factory: OptimizerFactory, kernel: str) -> bool:
    bound = factory.keywords if isinstance(factory, functools.partial) else {}
    chosen = {"fused", "foreach", "capturable", "differentiable"} & bound.keys()
    return not chosen and kernel in inspect.signature(factory).parameters


def is_within(name: str, prefix: str) -> bool:
    """Whether a parameter or module is the one named by a dotted prefix, or inside it."""
    return name == prefix or name.startswith(prefix + ".")


def _check_prefixes(multipliers: Mapping[str, float], trainable: Mapping[str, Any]) -> None:
    for prefix in multipliers:
        if any(is_within(name, prefix) for name in trainable):
            continue
        known = {name.rsplit(".", depth)[0] for name in trainable for depth in range(1, 5)}
        hint = nearest(prefix, sorted(known))
        raise ValueError(
            f"transfer.lr_multipliers: expected a trainable part, got {prefix!r}{hint}"
        )
