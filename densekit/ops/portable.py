"""Whether a program that is traced must run elsewhere, without densekit and PyTorch's kernels.

Exports must; an engine that is compiled for this machine keeps the formulations that are fastest
here. A program for ONNX keeps suppression and RoI pooling as the operators that ONNX has too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_kept_here = False
_for_onnx = False


def portable() -> bool:
    """Whether a portable program is being traced, see the module."""
    return torch.compiler.is_exporting() and not _kept_here


@contextmanager
def for_this_machine() -> Iterator[None]:
    """Context in which `torch.export` traces a program that stays on this machine."""
    global _kept_here
    before, _kept_here = _kept_here, True
    try:
        yield
    finally:
        _kept_here = before


def formulated_for_onnx() -> bool:
    """Whether a program for ONNX is being traced."""
    return _for_onnx


@contextmanager
def onnx_formulation() -> Iterator[None]:
    """Context in which `torch.export` traces a program that is translated to ONNX."""
    global _for_onnx
    before, _for_onnx = _for_onnx, True
    try:
        yield
    finally:
        _for_onnx = before
