"""Activation checkpointing: saves memory at the cost of time, with identical results.

Paper: Training Deep Nets with Sublinear Memory Cost, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recomputed(block: nn.Module, x: Tensor) -> Tensor:
    """Returns `block(x)`, keeping only `x` and recomputing the rest in backward.

    The second pass draws the same random numbers as the first, and batch norms update their running
    statistics once.
    """
    y: Tensor
    if torch.compiler.is_compiling():
        # A compiled graph is functional: the second pass does not update statistics again.
        y = checkpoint(block, x, use_reentrant=False)
    else:
        y = checkpoint(block, x, use_reentrant=False, context_fn=partial(_contexts, block))
    return y


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """Contexts of the first and the second pass."""
    return nullcontext(), _running_statistics_kept(block)


@contextmanager
def _running_statistics_kept(block: nn.Module) -> Iterator[None]:
    """Lets batch norms update copies of their running statistics, which are then discarded."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    stored = [(norm, dict(norm.named_buffers(recurse=False))) for norm in norms]
    for norm, buffers in stored:
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in stored:
            for name, value in buffers.items():
                setattr(norm, name, value)
