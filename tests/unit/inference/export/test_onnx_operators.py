"""Suppression, RoI pooling and sorting keep their results in ONNX Runtime and in OpenVINO."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.inference.export.onnx import session
from densekit.inference.export.onnx_operators import OPSET, largest_float32, translations
from densekit.inference.export.openvino import compiled, convert_onnx
from densekit.ops.nms import nms_keep
from densekit.ops.portable import onnx_formulation
from densekit.ops.roi import assign_levels, image_of_boxes, roi_align_by_level
from tests.unit.ops.test_roi import ROIS, STRIDES, levels

Run = Callable[..., Iterator[list[Any]]]


def runtimes(
    module: nn.Module, inputs: tuple[Tensor, ...], folder: Path, shapes: Any = None
) -> Run:
    """Exports a module; returns what runs it in each runtime."""
    with torch.no_grad(), onnx_formulation():
        program = torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
    exported = torch.onnx.export(
        program, (), opset_version=OPSET, custom_translation_table=translations(), verbose=False
    )
    assert exported is not None
    file = folder / "operator.onnx"
    exported.save(file)
    convert_onnx(file, folder / "operator.xml")
    ort, ov = session(file), compiled(folder / "operator.xml")

    def run(*values: Tensor) -> Iterator[list[Any]]:
        arrays = [value.numpy() for value in values]
        names = [given.name for given in ort.get_inputs()]
        yield ort.run(None, dict(zip(names, arrays, strict=True)))
        yield list(ov(arrays).values())

    return run


class Keep(nn.Module):
    def forward(self, boxes: Tensor, valid: Tensor, group: Tensor) -> Tensor:
        return torch.stack([nms_keep(boxes, valid, t, g) for t, g in thresholds(group)])


def thresholds(group: Tensor) -> list[tuple[float, Tensor | None]]:
    """A threshold that float32 holds, one that it rounds up, one that it rounds down."""
    return [(0.5, group), (0.6, group), (0.7, None)]


def problem(seed: int, count: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on whole pixels: overlaps at a threshold, equal boxes, some without an area."""
    torch.manual_seed(seed)
    rows = 1 + seed % 4
    corner = torch.randint(0, 20, (rows, count, 2))
    boxes = torch.cat([corner, corner + torch.randint(0, 12, (rows, count, 2))], -1).float()
    boxes[:, 1::10] = boxes[:, ::10]
    boxes *= [1.0, 0.37, 13.7][seed % 3]
    valid = torch.rand(rows, count) < [0.8, 0.0, 1.0, 0.8][seed % 4]
    return boxes, valid, torch.randint(0, 4, (rows, count))


@pytest.mark.slow
def test_suppression_is_equal_on_ties(tmp_path: Path) -> None:
    problems = torch.export.Dim("problems")
    run = runtimes(Keep(), problem(3), tmp_path, ({0: problems},) * 3)
    kept = 0
    for seed in range(60):
        inputs = problem(seed)
        expected = Keep()(*inputs).numpy()
        kept += expected.sum()
        for (found,) in run(*inputs):
            assert np.array_equal(found, expected), seed
    assert kept > 1000


def test_a_threshold_is_rounded_down() -> None:
    for limit in (0.3, 0.5, 0.6, 0.7, 0.9):
        below = np.float32(largest_float32(limit))
        assert float(below) <= limit < float(np.nextafter(below, np.float32(2)))


class Pool(nn.Module):
    def __init__(self, samples: int, aligned: bool) -> None:
        super().__init__()
        self.how = (7, samples, aligned)

    def forward(self, a: Tensor, b: Tensor, c: Tensor, boxes: Tensor) -> Tensor:
        image, boxes = image_of_boxes(boxes), boxes.flatten(0, 1)
        level = assign_levels(boxes, 2, 4, canonical_size=24)
        pooled, place = roi_align_by_level([a, b, c], boxes, image, level, STRIDES, *self.how)
        return pooled[place]


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "aligned"), [(2, False), (0, True)])
def test_regions_of_any_place(samples: int, aligned: bool, tmp_path: Path) -> None:
    """Those at the far edge too; OpenVINO has no value for regions without an area."""
    rois = torch.cat(list(ROIS.values()))
    area = (rois[:, 2:] - rois[:, :2]).prod(1)
    boxes = torch.stack([rois, rois.flip(0)])
    maps = [x.detach() for x in levels(torch.float32)]
    module = Pool(samples, aligned)
    expected = module(*maps, boxes).numpy()
    has_area = torch.cat([area, area.flip(0)]).numpy() > 0
    for (found,) in runtimes(module, (*maps, boxes), tmp_path)(*maps, boxes):
        np.testing.assert_allclose(found[has_area], expected[has_area], atol=2e-6)


class Sort(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return (*x.sort(dim=1, descending=True, stable=True), *y.sort(stable=True))


@pytest.mark.slow
class Grids(nn.Module):
    def forward(self, series: Tensor, image: Tensor, volume: Tensor) -> tuple[Tensor, ...]:
        return (
            F.adaptive_avg_pool1d(series, 3),
            F.adaptive_avg_pool2d(image, (6, 1)),
            F.adaptive_avg_pool3d(volume, (2, 3, 4)),
        )


def test_means_over_grids_of_any_size(tmp_path: Path) -> None:
    """Traced with sides that the cells divide; run with others, some shorter than the grid."""
    first = [(1, 2, 6), (1, 2, 6, 6), (1, 2, 4, 6, 8)]
    shapes = [dict.fromkeys(range(2, len(one)), torch.export.Dim.DYNAMIC) for one in first]
    run = runtimes(Grids(), tuple(map(torch.rand, first)), tmp_path, tuple(shapes))
    for sides in (first, [(1, 2, 5), (1, 2, 7, 3), (1, 2, 3, 5, 2)]):
        inputs = tuple(map(torch.rand, sides))
        expected = Grids()(*inputs)
        for found in run(*inputs):
            for value, own in zip(found, expected, strict=True):
                np.testing.assert_allclose(value, own, rtol=1e-5)


def test_sorting_is_stable(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x, y = torch.randint(0, 4, (2, 300)) / 4.0 - 1, torch.randint(0, 4, (500,))
    x[0, 7], x[1, 9] = torch.inf, -torch.inf
    for found in runtimes(Sort(), (x, y), tmp_path)(x, y):
        for value, expected in zip(found, Sort()(x, y), strict=True):
            assert np.array_equal(value, expected.numpy())
