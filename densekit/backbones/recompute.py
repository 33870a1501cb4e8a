"""Activation checkpointing: memory for time, with the same numbers.

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
    """Returns `block(x)`; only `x` is kept, the rest is made again in backward.

    The second pass draws the random numbers of the first, and batch norms count their batch once.
    """
    y: Tensor
    if torch.compiler.is_compiling():
        # A compiled graph is functional: what it makes again it does not store again.
        y = checkpoint(block, x, use_reentrant=False)
    else:
        y = checkpoint(block, x, use_reentrant=False, context_fn=partial(_contexts, block))
    return y


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
    """What the first and the second pass run in."""
    return nullcontext(), _running_statistics_kept(block)


@contextmanager
def _running_statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch norms move copies of their running statistics, which are then thrown away."""
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
