"""ONNX for the operators that PyTorch's exporter cannot translate.

Shape letters: P problems of suppression, N boxes each, G groups (classes); B images, C channels,
D spatial dimensions, s the D sizes of a map.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from densekit._extras import need
from densekit.ops import nms  # noqa: F401 - registers torch.ops.densekit.nms_keep_ragged

FLOAT, INT64, BOOL = 1, 7, 9
"""Numbers of types in ONNX."""
OPSET = 20


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Returns the translation of each operator, for `torch.onnx.export`."""
    return {
        torch.ops.densekit.nms_keep_ragged.default: _nms_keep,
        torch.ops.aten.sort.stable: _sort,
        torch.ops.aten.adaptive_avg_pool1d.default: _adaptive_mean,
        torch.ops.aten.adaptive_avg_pool2d.default: _adaptive_mean,
        torch.ops.aten.adaptive_avg_pool3d.default: _adaptive_mean,
    }


def _opset() -> Any:
    return getattr(need("onnxscript", "format=onnx", "export"), f"opset{OPSET}")


def largest_float32(limit: float) -> float:
    """Returns the largest float32 that is at most `limit`.

    A float32 exceeds the result exactly if it exceeds `limit`, a float64, to which PyTorch's
    kernel compares it.
    """
    nearest = np.float32(limit)
    below = nearest if float(nearest) <= limit else np.nextafter(nearest, np.float32(-math.inf))
    return float(below)


def _nms_keep(boxes: Any, valid: Any, group: Any, iou_threshold: float) -> Any:
    """`densekit.ops.nms.nms_keep` as one NonMaxSuppression: problems are images, groups classes.

    A box's score is its rank, so that no two are equal, and 0, which is never selected, in the
    classes that are not its own. ONNX does not care which axis of a box is x.
    """
    op = _opset()

    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    count = op.Shape(valid, start=1, end=2)  # (1,)
    rank = op.Cast(op.Range(op.Squeeze(count), zero, op.Constant(value_int=-1)), to=FLOAT)  # (N,)
    groups = op.Range(zero, op.Add(op.ReduceMax(group, keepdims=0), one), one)  # (G,)
    own = op.Equal(
        op.Unsqueeze(group, op.Constant(value_ints=[1])),
        op.Unsqueeze(groups, op.Constant(value_ints=[0, 2])),
    )
    own = op.And(own, op.Unsqueeze(valid, op.Constant(value_ints=[1])))  # (P, G, N)
    chosen = op.NonMaxSuppression(
        boxes,
        op.Mul(op.Cast(own, to=FLOAT), rank),
        count,
        op.Constant(value_float=largest_float32(iou_threshold)),
        op.Constant(value_float=0.0),
    )  # rows of problem, group, box
    place = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    kept = op.Expand(op.Constant(value_float=1.0), op.Shape(place, start=0, end=1))
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(valid))
    return op.Cast(op.ScatterND(nothing, place, kept), to=BOOL)


def _sort(self: Any, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """A stable sort: TopK of all, then equal values by their index.

    ONNX's TopK takes the lower index first, but OpenVINO's takes any, or hundreds of times as long.
    """
    op = _opset()

    axis, one = op.Constant(value_ints=[dim]), op.Constant(value_ints=[1])
    count = op.Gather(op.Shape(self), axis)
    values, order = op.TopK(self, count, axis=dim, largest=int(descending), sorted=1)
    behind = op.Slice(values, one, count, axis)
    before = op.Slice(values, op.Constant(value_ints=[0]), op.Constant(value_ints=[-1]), axis)
    differs = op.Cast(op.Not(op.Equal(behind, before)), to=INT64)
    first = op.Slice(
        op.Mul(order, op.Constant(value_int=0)), op.Constant(value_ints=[0]), one, axis
    )
    run = op.CumSum(op.Concat(first, differs, axis=dim), axis)  # of equal values
    key, _ = op.TopK(op.Add(op.Mul(run, count), order), count, axis=dim, largest=0, sorted=1)
    return values, op.Mod(key, count)


def _adaptive_mean(self: Any, output_size: Sequence[int]) -> Any:
    """Means over the cells of a grid: one product with a matrix of shares per axis.

    PyTorch decomposes it into indices of the size that was traced, wrong for any other.

    Args:
        self: (B, C, *s).
        output_size: Cells along each axis of s.
    """
    op = _opset()

    dims = len(output_size)
    for axis, cells in enumerate(output_size, 2):
        last = [*(one for one in range(dims + 2) if one != axis), axis]
        back = [last.index(one) for one in range(dims + 2)]
        pooled = op.MatMul(op.Transpose(self, perm=last), _shares(op, self, axis, cells))
        self = op.Transpose(pooled, perm=back)
    return self


def _shares(op: Any, maps: Any, axis: int, cells: int) -> Any:
    """The share of each position of an axis in each cell, (s of the axis, cells)."""
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    length = op.Squeeze(op.Shape(maps, start=axis, end=axis + 1))
    count = op.Constant(value_int=cells)
    cell = op.Constant(value_ints=list(range(cells)))
    first = op.Div(op.Mul(cell, length), count)  # (cells,)
    behind = op.Div(op.Add(op.Mul(op.Add(cell, one), length), op.Sub(count, one)), count)
    place = op.Unsqueeze(op.Range(zero, length, one), op.Constant(value_ints=[1]))
    inside = op.And(op.GreaterOrEqual(place, first), op.Less(place, behind))
    return op.Div(op.Cast(inside, to=FLOAT), op.Cast(op.Sub(behind, first), to=FLOAT))
