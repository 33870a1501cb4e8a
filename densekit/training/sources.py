"""What the loop asks the data module: which data sets there are, and which heads each is for."""

from __future__ import annotations

from lightning.pytorch import Trainer


def source_names(trainer: Trainer) -> list[str]:
    """Names of the data sets that are evaluated, in the order of the loaders."""
    datamodule = getattr(trainer, "datamodule", None)
    return list(getattr(datamodule, "source_names", ("data",)))


def source_heads(trainer: Trainer, source: str) -> tuple[str, ...] | None:
    """Heads that a data set has targets for; None, all, where no data module says."""
    sources = getattr(getattr(trainer, "datamodule", None), "sources", {})
    return tuple(sources[source].heads) if source in sources else None


def log_name(trainer: Trainer, stage: str, source: str, name: str) -> str:
    """`STAGE/NAME`, or `STAGE/SOURCE/NAME` where several data sets are evaluated."""
    several = len(source_names(trainer)) > 1
    return f"{stage}/{source}/{name}" if several else f"{stage}/{name}"
