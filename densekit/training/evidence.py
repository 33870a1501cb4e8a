"""The file that a non-finite loss or gradient leaves: the step that `densekit replay` repeats."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from densekit._files import replacing
from densekit.training.likely_cause import file_names
from densekit.training.step import Step
from densekit.types import Batch

KEYS = ("batches", "heads", "seeds", "precision", "rate", "micro_batches")
"""Keys from which a step is built, besides those of its model."""


def write_evidence(
    path: Path, step: Step, config: str, terms: Mapping[str, float], module: str, cause: str
) -> None:
    """Writes a step, which `torch.load(..., weights_only=True)` reads.

    Args:
        path: The file; its folder is created.
        step: Its weights are stored too.
        config: YAML text, from which the model can be rebuilt.
        terms: Of its loss.
        module: The first module or gradient that is not finite.
        cause: The likely one.
    """
    evidence = {
        "batches": {source: stored(batch) for source, batch in step.batches.items()},
        "files": {source: file_names(batch) for source, batch in step.batches.items()},
        "heads": {n: None if of is None else list(of) for n, of in step.heads.items()},
        "seeds": step.seeds,
        "precision": step.precision,
        "rate": step.rate,
        "micro_batches": step.micro_batches,
        "terms": dict(terms),
        "module": module,
        "step": step.seeds[1],
        "cause": cause,
        "state_dict": step.model.state_dict() if step.weights is None else dict(step.weights),
        "config": config,
        "info": cast(Any, step.model).info,
    }
    with replacing(path) as part:
        torch.save(evidence, part)


def stored(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a batch, with those of plug-ins below `extra`."""
    found: dict[str, Any] = {k: v.detach() for k, v in batch.items() if isinstance(v, Tensor)}
    if extra := batch.get("extra"):
        found["extra"] = stored(extra)
    return found


def stored_step(
    evidence: Mapping[str, Any],
    model: nn.Module,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> Step:
    """Returns the step that a file holds.

    Args:
        evidence: Content of the file.
        model: With the weights of the file.
        autocast: Makes the context of the run's precision.
    """
    files = evidence["files"]
    batches = {
        source: cast(Batch, {**batch, "meta": [{"path": name} for name in files[source]]})
        for source, batch in evidence["batches"].items()
    }
    seed, step, index, rank = evidence["seeds"]
    return Step(
        model,
        batches,
        evidence["heads"],
        (seed, step, index, rank),
        evidence["precision"],
        evidence["rate"],
        evidence["micro_batches"],
        autocast,
    )
