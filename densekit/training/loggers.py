"""Loggers that stumble over names of metrics, taught ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lightning.pytorch.loggers import MLFlowLogger

from densekit.data.naming import digest

LONGEST = 250
"""Characters of a name that MLflow takes."""


class MlflowLogger(MLFlowLogger):
    """Lightning's, with names that MLflow can store.

    MLflow's names are files and folders, of few characters. `val/x/AP` beside `val/x/AP/cat`
    becomes `val/x.AP` and `val/x.AP.cat`, and characters that it does not take are written as their
    number: two classes never share a name.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs them under the names of `mlflow_name`."""
        super().log_metrics({mlflow_name(name): value for name, value in metrics.items()}, step)


def mlflow_name(name: str) -> str:
    """`STAGE/REST`, the rest without a slash: no name is then the folder of another one."""
    stage, slash, rest = name.partition("/")
    written = re.sub(
        r"[^a-zA-Z0-9_. -]", lambda found: f"-{ord(found[0]):x}-", rest.replace("/", ".")
    )
    full = stage + slash + written
    return full if len(full) <= LONGEST else f"{full[: LONGEST - 17]}-{digest([name])}"
