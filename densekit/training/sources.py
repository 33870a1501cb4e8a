"""Names of what is logged, and what they need of the data module: its data sets and their heads.

`STAGE/loss`, `STAGE/HEAD/loss/TERM`, `STAGE/HEAD/METRIC` and, of one class,
`STAGE/HEAD/METRIC/CLASS`; with several data sets their name stands behind the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Trainer

LOSS = "loss"
"""The total, and what stands before every term: no head, data set or metric is called so."""


@runtime_checkable
class HasSources(Protocol):
    """A data module that says what it holds, as `densekit.data.DataModule` does.

    Attributes:
        sources: Data set by name, each with the `heads` that it has targets for.
        source_names: Names of those that are evaluated, in the order of the loaders.
    """

    sources: Mapping[str, Any]
    source_names: list[str]


def sources_of(trainer: Trainer) -> Mapping[str, Any]:
    """The data sets of a trainer by name; none where its data module does not say."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return data.sources if isinstance(data, HasSources) else {}


def source_names(trainer: Trainer) -> list[str]:
    """Names of the data sets that are evaluated, in the order of the loaders."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return data.source_names if isinstance(data, HasSources) else ["data"]


def source_heads(trainer: Trainer, source: str) -> tuple[str, ...] | None:
    """Heads that a data set has targets for; None, all, where no data module says."""
    sources = sources_of(trainer)
    return tuple(sources[source].heads) if source in sources else None


def log_name(trainer: Trainer, stage: str, source: str, name: str) -> str:
    """`STAGE/NAME`, or `STAGE/SOURCE/NAME` where several data sets are evaluated."""
    several = len(source_names(trainer)) > 1
    return f"{stage}/{source}/{name}" if several else f"{stage}/{name}"


def loss_name(term: str, sources: int = 1) -> str:
    """`HEAD/loss/TERM` of `HEAD/TERM`: no metric of the head can have this name.

    Args:
        term: Named `HEAD/TERM`, or `SOURCE/HEAD/TERM` if there are several data sets.
        sources: Number of data sets.
    """
    *places, own = term.split("/", 2 if sources > 1 else 1)
    return "/".join((*places, LOSS, own))


def is_main(name: str, sources: int = 1) -> bool:
    """Whether a logged name is a loss or a metric of a whole data set: `AP`, not `AP/cat`.

    Args:
        name: Without its stage.
        sources: Number of data sets that are evaluated.
    """
    parts = name.split("/")[sources > 1 :]
    return len(parts) <= 2 or parts[1] == LOSS
