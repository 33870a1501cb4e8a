"""Makes loggers fail-safe: an error of a logger does not end the training."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment as DummyExperiment
from lightning.pytorch.loggers import Logger

from densekit.training.logged_pictures import log_picture

METHODS = (
    *("log_metrics", "log_hyperparams", "log_graph", "save", "finalize"),
    "after_save_checkpoint",
)
_DROPPED = "_densekit_dropped"

log = logging.getLogger(__name__)


def guarded(logger: Logger) -> Logger:
    """Makes a logger turn itself off at its first error instead of raising.

    A locked database, an unreachable server or a full disk do not end the training: the error is
    reported once, and the logger does nothing from then on.

    Args:
        logger: Changed in place, to a subclass of its class; returned.
    """
    kind: Any = type(logger)
    parts: dict[str, Any] = {name: _guard(getattr(kind, name)) for name in METHODS}
    parts["log_picture"] = _guard(log_picture)
    if isinstance(getattr(kind, "experiment", None), property):
        parts["experiment"] = property(_guard(kind.experiment.fget, DummyExperiment))
    logger.__class__ = type(kind.__name__, (kind,), parts)
    return logger


def _guard(method: Callable[..., Any], instead: Callable[[], Any] = lambda: None) -> Any:
    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **settings: Any) -> Any:
        if not getattr(self, _DROPPED, False):
            try:
                return method(self, *arguments, **settings)
            except Exception as error:  # tracking libraries raise anything
                setattr(self, _DROPPED, True)
                reason = (str(error).splitlines() or [""])[0]
                log.warning(
                    "logger: %s failed and is turned off, the run continues without it: %s: %s",
                    *(type(self).__name__, type(error).__name__, reason),
                )
        return instead()

    return call
