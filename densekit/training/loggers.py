"""Loggers that need metric names rewritten."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lightning.pytorch.loggers import MLFlowLogger

from densekit.data.naming import digest

LONGEST = 250
"""Longest metric name that MLflow accepts."""


class MlflowLogger(MLFlowLogger):
    """Lightning's `MLFlowLogger` with metric names that MLflow can store.

    MLflow stores metrics as files, so that `val/x/AP` cannot exist beside `val/x/AP/cat`; they
    become `val/x.AP` and `val/x.AP.cat`. Characters that it refuses are written as their code
    points, so that two classes never share a name.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs metrics under the names given by `mlflow_name`."""
        super().log_metrics({mlflow_name(name): value for name, value in metrics.items()}, step)


def mlflow_name(name: str) -> str:
    """Rewrites a name as `STAGE/REST` without further slashes: none is the folder of another."""
    stage, slash, rest = name.partition("/")
    written = re.sub(
        r"[^a-zA-Z0-9_. -]", lambda found: f"-{ord(found[0]):x}-", rest.replace("/", ".")
    )
    full = stage + slash + written
    return full if len(full) <= LONGEST else f"{full[: LONGEST - 17]}-{digest([name])}"
