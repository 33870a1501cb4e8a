"""Finds the names that an evaluation will log and its main metric; checks callbacks' monitors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from densekit._names import unknown
from densekit.training.inferer import Inferer, sees_images
from densekit.training.metric_set import Names, Recipes, build_metrics, measured, part_of
from densekit.training.sources import LOSS

if TYPE_CHECKING:
    from densekit.model import DenseModel

STAGE = "val/"


class Main(NamedTuple):
    """The metric that a run is judged by.

    Attributes:
        name: As it is logged.
        mode: Whether the "max" or the "min" is better.
    """

    name: str
    mode: str


class Logged(NamedTuple):
    """The names that an evaluation will log.

    Attributes:
        modes: Name to the better direction, "max" or "min", None if undeclared.
        open: Prefixes under which names become known only once they are logged.
        main: The main metric of the first combination or head that has one, else the loss; None
            without both.
    """

    modes: dict[str, str | None]
    open: list[str]
    main: Main | None

    def mode(self, name: str) -> str | None:
        """Returns the better direction of a name, None if undeclared."""
        if any(name.startswith(start) for start in self.open if start.endswith(f"/{LOSS}/")):
            return "min"
        return self.modes.get(name)

    def may_hold(self, name: str) -> bool:
        """Whether a name may be logged, as far as that is known in advance."""
        return name in self.modes or any(name.startswith(start) for start in self.open)


def logged_names(
    stage: str, model: DenseModel, sources: Mapping[str, Any], recipes: Recipes, inferer: Inferer
) -> Logged:
    """Returns the names of the metrics and losses that an evaluation will log.

    Args:
        stage: "val" or "test".
        model: Its heads make metrics and name their main one.
        sources: Data sets by name.
        recipes: Replace the default metrics of the heads they name.
        inferer: Without whole images there is no loss.

    Raises:
        ValueError: A metric cannot be built, or names clash.
    """
    several = sum(source.val is not None or source.test is not None for source in sources.values())
    modes: dict[str, str | None] = {}
    begin: list[str] = []
    mains: dict[str, Main] = {}
    losses: list[str] = []
    for name, source in sources.items():
        data = getattr(source, stage)
        if data is None:
            continue
        prefix = f"{stage}/{name}/" if several > 1 else f"{stage}/"
        names = build_metrics(model, source.heads, recipes).names()
        modes |= {prefix + key: mode for key, mode in names.modes.items()}
        begin += [f"{prefix}{head}/" for head in names.unknown]
        for head in measured(model, source.heads):
            if found := main_metric(model, head, names):
                mains.setdefault(head, Main(prefix + found.name, found.mode))
        if learning := _with_loss(model, source.heads, data, inferer):
            losses.append(prefix + LOSS)
            begin += [f"{prefix}{head}/{LOSS}/" for head in learning]
    modes |= {main.name: main.mode for main in mains.values()} | dict.fromkeys(losses, "min")
    ranked = measured(model, None)
    first = next((mains[name] for name in ranked if name in mains), None)
    return Logged(modes, begin, first or (Main(losses[0], "min") if losses else None))


def main_metric(model: DenseModel, head: str, names: Names) -> Main | None:
    """Returns the main metric of a head or combination.

    If its metrics are replaced, it is the first that has a mode. None if the head names no main
    metric, or if no replacement declares its better direction.
    """
    own = part_of(model, head).main_metric
    if own is None:
        return None
    name, mode = own
    if f"{head}/{name}" in names.modes or head in names.unknown:
        return Main(f"{head}/{name}", mode)
    with_mode = (Main(key, mode) for key, mode in names.modes.items() if mode is not None)
    return next((main for main in with_mode if main.name.startswith(f"{head}/")), None)


def check_monitors(callbacks: Iterable[Any], logged: Iterable[str]) -> None:
    """Refuses callbacks that monitor a name that validation has not logged.

    Args:
        callbacks: Of the trainer; those with a `monitor` are checked.
        logged: All names logged by the end of a validation.

    Raises:
        ValueError: Lists the names that can be monitored, and why there may be no loss.
    """
    measured = [name for name in logged if name.startswith(STAGE)]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not monitor.startswith(STAGE) or monitor in measured:
            continue
        raise ValueError(
            f"{unknown(f'monitor of {type(callback).__name__}', monitor, measured)}\n"
            "Set callbacks.checkpoint.monitor to one of these and callbacks.checkpoint.mode to max"
            " or min, or set the monitor to null to keep the newest. Validation has no loss for"
            " heads whose targets its data lack (identities or classes unknown to training), nor"
            " with windows or slices."
        )


def _with_loss(model: DenseModel, heads: Iterable[str], data: Any, inferer: Inferer) -> list[str]:
    """Heads that have a loss on a data set.

    The network must see whole images, and identities must be known to training.
    """
    described = data.describe()
    if not sees_images(inferer, model, described.get("spatial_dims", 2)):
        return []
    known = "num_identities" in described
    keys = {head: model.heads[head].target_keys for head in heads}
    return [head for head in heads if known or "identity" not in keys[head]]
