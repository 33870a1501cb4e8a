"""Resolves the metrics that callbacks and sweeps monitor; the main one by default."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from densekit._names import unknown
from densekit.app.errors import UsageError
from densekit.build import find_class

if TYPE_CHECKING:
    from densekit.training.monitors import Logged

MAIN = "main"
"""Stands for the main metric of the first head that has one, else for the loss."""
DIRECTIONS = {"maximize": "max", "minimize": "min"}
"""Optuna's directions to the modes of callbacks."""
OWN = ("densekit.", "lightning.")
"""Packages whose callbacks log no metrics that could be monitored."""

logger = logging.getLogger(__name__)


def settled(
    callbacks: Mapping[str, Any], logged: Logged, *, trust: list[str]
) -> dict[str, Mapping[str, Any] | None]:
    """Fills in the metric name and the mode that each callback monitors.

    Args:
        callbacks: Name to configuration; None for one that is left out.
        logged: What validation will log.
        trust: Further packages whose classes may be built.

    Raises:
        UsageError: A monitored metric will not be logged, or its mode is not known.
    """
    strict = all(str(node["_target_"]).startswith(OWN) for node in callbacks.values() if node)
    found: dict[str, Mapping[str, Any] | None] = {}
    for name, node in callbacks.items():
        if node is None or "monitor" not in node:
            found[name] = node
            continue
        key = f"callbacks.{name}.monitor"
        if _keeps_newest(key, node, logged, trust):
            found[name] = {**node, "monitor": None}
            continue
        monitor, mode = _watched(key, node["monitor"], node.get("mode"), logged, strict=strict)
        found[name] = {**node, "monitor": monitor, "mode": mode}
        logger.info("%s: %s (%s)", key, monitor, mode)
    return found


def objective_name(objective: str, logged: Mapping[str, Logged]) -> str:
    """The name of the metric that a sweeper optimises.

    Args:
        objective: As given on the command line.
        logged: "val" and "test" to what will be logged.

    Raises:
        UsageError: It will not be measured.
    """
    main = logged["val"].main
    if objective == MAIN:
        if main is None:
            raise UsageError("objective: expected data with a validation split, got none")
        return main.name
    if not any(of_stage.may_hold(objective) for of_stage in logged.values()):
        raise UsageError(_unmeasured("objective", objective, *logged.values()))
    return objective


def check_direction(objective: str, direction: str | None, logged: Mapping[str, Logged]) -> None:
    """Refuses to optimise in the wrong direction: Optuna minimises by default.

    Raises:
        UsageError: The direction is opposite to the mode of the metric.
    """
    modes = [mode for of_stage in logged.values() if (mode := of_stage.mode(objective))]
    if modes and direction in DIRECTIONS and DIRECTIONS[direction] != modes[0]:
        right = next(word for word, mode in DIRECTIONS.items() if mode == modes[0])
        raise UsageError(
            f"hydra.sweeper.direction: expected {right} for {objective}, got {direction}"
        )


def _keeps_newest(key: str, node: Mapping[str, Any], logged: Logged, trust: list[str]) -> bool:
    """Whether a callback monitors nothing, as checkpoints may.

    Raises:
        UsageError: The callback needs a metric and got null.
    """
    monitor = node["monitor"]
    made = find_class(str(node["_target_"]), key.rpartition(".")[0], trust)
    parameter = inspect.signature(made).parameters.get("monitor")
    optional = parameter is not None and parameter.default is None
    if monitor is None and not optional:
        raise UsageError(_unmeasured(key, monitor, logged))
    if monitor == MAIN and logged.main is None and optional:
        logger.info("%s: no validation, so the newest checkpoint is kept", key)
        return True
    return monitor is None


def _watched(
    key: str, monitor: str, mode: str | None, logged: Logged, *, strict: bool
) -> tuple[str, str]:
    if monitor == MAIN:
        if logged.main is None:
            raise UsageError(f"{key}: expected data with a validation split, got none")
        monitor = logged.main.name
    elif not monitor.startswith("train/") and strict and not logged.may_hold(monitor):
        raise UsageError(_unmeasured(key, monitor, logged))
    known = "min" if monitor == "train/loss" else logged.mode(monitor)
    chosen = mode or known
    where = key.replace(".monitor", ".mode")
    if chosen is None or chosen not in DIRECTIONS.values():
        raise UsageError(f"{where}: expected max or min of {monitor}, got {chosen!r}")
    if known is not None and chosen != known:
        logger.warning(
            "%s: expected %s of %s, got %s; the worst value counts as the best",
            *(where, known, monitor, chosen),
        )
    return monitor, chosen


def _unmeasured(key: str, name: object, *logged: Logged) -> str:
    """The message for an unknown metric, which lists overall metrics before per-class ones."""
    names = [name for of_stage in logged for name in of_stage.modes]
    if not names and not any(of_stage.open for of_stage in logged):
        return f"{key}: expected a metric, got {name!r}; there is no validation"
    names.sort(key=lambda one: one.count("/"))
    return unknown(key, "null" if name is None else name, [MAIN, *names])
