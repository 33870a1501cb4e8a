"""The names that an evaluation will log, the main one, and whether callbacks watch one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from densekit._names import unknown
from densekit.training.inferer import Inferer, sees_images
from densekit.training.metric_set import Names, Recipes, build_metrics
from densekit.training.sources import LOSS

if TYPE_CHECKING:
    from densekit.model import DenseModel

STAGE = "val/"


class Main(NamedTuple):
    """The metric that a run is judged by.

    Attributes:
        name: As it is logged.
        mode: What of it is better, "max" or "min".
    """

    name: str
    mode: str


class Logged(NamedTuple):
    """What an evaluation will log.

    Attributes:
        modes: Name to what is better, "max" or "min", None where nobody says.
        open: What names begin with that are known only once they are logged.
        main: The main metric of the first head that has one, else the loss; None without both.
    """

    modes: dict[str, str | None]
    open: list[str]
    main: Main | None

    def mode(self, name: str) -> str | None:
        """What is better of a name, None where nobody says."""
        if any(name.startswith(start) for start in self.open if start.endswith(f"/{LOSS}/")):
            return "min"
        return self.modes.get(name)

    def may_hold(self, name: str) -> bool:
        """Whether a name is logged, as far as that can be known before."""
        return name in self.modes or any(name.startswith(start) for start in self.open)


def logged_names(
    stage: str, model: DenseModel, sources: Mapping[str, Any], recipes: Recipes, inferer: Inferer
) -> Logged:
    """Builds the metrics of an evaluation and asks what they, and the losses, will be named.

    Args:
        stage: "val" or "test".
        model: Its heads make metrics and name their main one.
        sources: Data sets by name.
        recipes: Replaces the own metrics of the heads it names.
        inferer: If it shows the network no whole image there is no loss.

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
        place = f"{stage}/{name}/" if several > 1 else f"{stage}/"
        names = build_metrics(model, source.heads, recipes).names()
        modes |= {place + key: mode for key, mode in names.modes.items()}
        begin += [f"{place}{head}/" for head in names.unknown]
        for head in source.heads:
            if found := main_metric(model, head, names):
                mains.setdefault(head, Main(place + found.name, found.mode))
        if learning := _with_loss(model, source.heads, data, inferer):
            losses.append(place + LOSS)
            begin += [f"{place}{head}/{LOSS}/" for head in learning]
    modes |= {main.name: main.mode for main in mains.values()} | dict.fromkeys(losses, "min")
    first = next((mains[head] for head in model.heads if head in mains), None)
    return Logged(modes, begin, first or (Main(losses[0], "min") if losses else None))


def main_metric(model: DenseModel, head: str, names: Names) -> Main | None:
    """The metric that a head names; where others replace its metrics, the first of theirs.

    None if it names none, or if the first ones do not say what of them is better.
    """
    own = model.heads[head].main_metric
    if own is None:
        return None
    name, mode = own
    if f"{head}/{name}" in names.modes or head in names.unknown:
        return Main(f"{head}/{name}", mode)
    told = (Main(key, mode) for key, mode in names.modes.items() if mode is not None)
    return next((main for main in told if main.name.startswith(f"{head}/")), None)


def check_monitors(callbacks: Iterable[Any], logged: Iterable[str]) -> None:
    """Refuses a callback that watches what validation has not logged.

    Args:
        callbacks: Of the trainer; those that have a `monitor` are looked at.
        logged: Names of all that is logged, at the end of a validation.

    Raises:
        ValueError: Naming what could be watched, and why there may be no loss.
    """
    measured = [name for name in logged if name.startswith(STAGE)]
    for callback in callbacks:
        monitor = getattr(callback, "monitor", None)
        if not isinstance(monitor, str) or not monitor.startswith(STAGE) or monitor in measured:
            continue
        raise ValueError(
            f"{unknown(f'monitor of {type(callback).__name__}', monitor, measured)}\n"
            "Set callbacks.checkpoint.monitor to one of these and callbacks.checkpoint.mode to max"
            " or min, or the monitor to null for the newest. Validation has no loss of heads whose"
            " targets are not in its data (other identities or classes than those of training),"
            " nor with windows or slices."
        )


def _with_loss(model: DenseModel, heads: Iterable[str], data: Any, inferer: Inferer) -> list[str]:
    """Heads that have a loss on a data set.

    The network has to see its images whole, and strangers are in no class of identities.
    """
    described = data.describe()
    if not sees_images(inferer, model, described.get("spatial_dims", 2)):
        return []
    known = "num_identities" in described
    keys = {head: model.heads[head].target_keys for head in heads}
    return [head for head in heads if known or "identity" not in keys[head]]
