"""Names of logged values, and access to the data sets of the data module.

`STAGE/loss`, `STAGE/HEAD/loss/TERM`, `STAGE/HEAD/METRIC` and, for one class,
`STAGE/HEAD/METRIC/CLASS`; with several data sets the name of the data set follows the stage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import Trainer

LOSS = "loss"
"""Name of the total loss and prefix of every term; reserved, so that no head or metric has it."""


@runtime_checkable
class HasSources(Protocol):
    """A data module that declares its data sets, as `densekit.data.DataModule` does.

    Attributes:
        sources: Name to data set, each with the `heads` that it has targets for.
        source_names: Names of the evaluated data sets, in the order of the loaders.
    """

    sources: Mapping[str, Any]
    source_names: list[str]


def sources_of(trainer: Trainer) -> Mapping[str, Any]:
    """Name to data set of a trainer; empty if its data module declares none."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return data.sources if isinstance(data, HasSources) else {}


def source_names(trainer: Trainer) -> list[str]:
    """Names of the evaluated data sets, in the order of the loaders."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    return data.source_names if isinstance(data, HasSources) else ["data"]


def source_heads(trainer: Trainer, source: str) -> tuple[str, ...] | None:
    """Heads that a data set has targets for; None (all) if no data module declares them."""
    sources = sources_of(trainer)
    return tuple(sources[source].heads) if source in sources else None


def log_name(trainer: Trainer, stage: str, source: str, name: str) -> str:
    """Returns `STAGE/NAME`, or `STAGE/SOURCE/NAME` if several data sets are evaluated."""
    several = len(source_names(trainer)) > 1
    return f"{stage}/{source}/{name}" if several else f"{stage}/{name}"


def loss_name(term: str, sources: int = 1) -> str:
    """Turns `HEAD/TERM` into `HEAD/loss/TERM`, which no metric of the head can be named.

    Args:
        term: Named `HEAD/TERM`, or `SOURCE/HEAD/TERM` with several data sets.
        sources: Number of data sets.
    """
    *prefix, own = term.split("/", 2 if sources > 1 else 1)
    return "/".join((*prefix, LOSS, own))


def is_main(name: str, sources: int = 1) -> bool:
    """Whether a logged name is a loss or a metric of a whole data set: `AP`, not `AP/cat`.

    Args:
        name: Without its stage.
        sources: Number of evaluated data sets.
    """
    parts = name.split("/")[sources > 1 :]
    return len(parts) <= 2 or parts[1] == LOSS
