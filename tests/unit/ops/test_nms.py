"""Both back ends keep what torchvision's kernel keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from densekit.ops.nms import Backend, default_backend, nms_keep, suppression_matrix

BACKENDS: list[Backend] = ["ragged", "static"]
THRESHOLD = 0.5


def problem(problems: int = 3, count: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes on whole pixels (many overlaps tie, some boxes are equal), valid rows and groups."""
    corner = torch.randint(0, 20, (problems, count, 2))
    boxes = torch.cat([corner, corner + torch.randint(2, 12, (problems, count, 2))], -1).float()
    boxes[:, 1::10] = boxes[:, ::10]
    valid = torch.rand(problems, count) < 0.8
    return boxes, valid, torch.randint(0, 4, (problems, count))


def torchvision_keep(boxes: Tensor, valid: Tensor, group: Tensor | None) -> Tensor:
    """One problem; rows are sorted by score."""
    rows = valid.nonzero()[:, 0]
    score = torch.arange(len(rows), 0, -1).float()
    if group is None:
        kept = nms(boxes[rows], score, THRESHOLD)
    else:
        kept = batched_nms(boxes[rows], score, group[rows], THRESHOLD)
    return torch.zeros_like(valid).index_fill(0, rows[kept], True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_equals_torchvision(backend: Backend, grouped: bool, seed: int) -> None:
    torch.manual_seed(seed)
    boxes, valid, group = problem()
    groups = group if grouped else None
    keep = nms_keep(boxes, valid, THRESHOLD, groups, backend)
    expected = [
        torchvision_keep(b, v, g if grouped else None)
        for b, v, g in zip(boxes, valid, group, strict=True)
    ]
    assert torch.equal(keep, torch.stack(expected))
    assert 0 < keep.sum() < valid.sum()


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_overlap_at_the_threshold_survives(backend: Backend) -> None:
    boxes = torch.tensor([[[0.0, 0, 2, 2], [0, 0, 2, 1], [0, 0, 2, 1.01]]])
    keep = nms_keep(boxes, torch.ones(1, 3, dtype=torch.bool), THRESHOLD, backend=backend)
    assert keep.tolist() == [[True, True, False]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_suppressed_box_suppresses_none(backend: Backend) -> None:
    """A chain, each link overlapping the next alone: the longest way to the fixpoint."""
    x = torch.arange(40.0)
    boxes = torch.stack([x, x * 0, x + 4, x * 0 + 4], 1)[None]  # IoU .6 with the next, .33 after
    keep = nms_keep(boxes, torch.ones(1, 40, dtype=torch.bool), THRESHOLD, backend=backend)
    assert keep[0].tolist() == [i % 2 == 0 for i in range(40)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_invalid_rows_neither_survive_nor_suppress(backend: Backend) -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2]]).repeat(1, 3, 1)
    valid = torch.tensor([[False, True, True]])
    keep = nms_keep(boxes, valid, THRESHOLD, backend=backend)
    assert keep.tolist() == [[False, True, False]]
    assert not nms_keep(boxes, valid & False, THRESHOLD, backend=backend).any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_boxes_without_area_overlap_nothing(backend: Backend) -> None:
    boxes = torch.tensor([[[1.0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 2, 2], [0, 1, 2, 1]]])
    keep = nms_keep(boxes, torch.ones(1, 4, dtype=torch.bool), THRESHOLD, backend=backend)
    assert keep.all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("shape", [(3, 0), (0, 5), (0, 0), (1, 0)])
def test_no_boxes(backend: Backend, grouped: bool, shape: tuple[int, int]) -> None:
    group = torch.zeros(shape, dtype=torch.int64) if grouped else None
    valid = torch.ones(shape, dtype=torch.bool)
    keep = nms_keep(torch.zeros(*shape, 4), valid, 0.5, group, backend)
    assert (keep.shape, keep.dtype) == (shape, torch.bool)


@pytest.mark.parametrize("backend", BACKENDS)
def test_large_boxes_in_half_precision(backend: Backend) -> None:
    boxes, valid, _ = problem()
    boxes = (boxes * 8).round().half()
    expected = nms_keep(boxes.double(), valid, 0.5, backend=backend)
    assert torch.equal(nms_keep(boxes, valid, 0.5, backend=backend), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("grouped", [False, True])
def test_compiles_without_a_break(backend: Backend, grouped: bool) -> None:
    boxes, valid, group = problem()
    groups = group if grouped else None
    compiled = torch.compile(nms_keep, backend="eager", fullgraph=True)
    found = compiled(boxes, valid, THRESHOLD, groups, backend)
    assert torch.equal(found, nms_keep(boxes, valid, THRESHOLD, groups, "ragged"))


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Room for two problems of 50 boxes; collects the number of pairs of each chunk."""
    sizes: list[int] = []

    def watched(boxes: Tensor, iou_threshold: float) -> Tensor:
        sizes.append(len(boxes) * boxes.shape[1] ** 2)
        return suppression_matrix(boxes, iou_threshold)

    monkeypatch.setattr("densekit.ops.nms.MAX_PAIRS", 2 * 50**2 + 100)
    monkeypatch.setattr("densekit.ops.nms.suppression_matrix", watched)
    return sizes


@pytest.mark.parametrize("grouped", [False, True])
def test_chunks_bound_memory_and_change_nothing(small_chunks: list[int], grouped: bool) -> None:
    boxes, valid, group = problem(problems=5)
    groups = group if grouped else None
    found = nms_keep(boxes, valid, THRESHOLD, groups, "static")
    assert torch.equal(found, nms_keep(boxes, valid, THRESHOLD, groups, "ragged"))
    assert small_chunks == [2 * 50**2, 2 * 50**2, 50**2]


def test_a_problem_larger_than_the_bound_is_solved_alone(small_chunks: list[int]) -> None:
    boxes, valid, group = problem(problems=2, count=90)
    found = nms_keep(boxes, valid, THRESHOLD, group, "static")
    assert torch.equal(found, nms_keep(boxes, valid, THRESHOLD, group, "ragged"))
    assert small_chunks == [90**2, 90**2]


def test_chunks_compile_without_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densekit.ops.nms.MAX_PAIRS", 2 * 50**2)
    boxes, valid, group = problem(problems=5)
    compiled = torch.compile(nms_keep, backend="eager", fullgraph=True)
    found = compiled(boxes, valid, THRESHOLD, group, "static")
    assert torch.equal(found, nms_keep(boxes, valid, THRESHOLD, group, "ragged"))


def test_an_exported_program_takes_any_number_of_problems(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keep(torch.nn.Module):
        def forward(self, boxes: Tensor, valid: Tensor) -> Tensor:
            return nms_keep(boxes, valid, THRESHOLD)

    monkeypatch.setattr("densekit.ops.nms.MAX_PAIRS", 2 * 50**2)
    boxes, valid, _ = problem(problems=5)
    problems = torch.export.Dim("problems", min=1, max=64)
    shapes = {"boxes": {0: problems}, "valid": {0: problems}}
    exported = torch.export.export(Keep(), (boxes, valid), dynamic_shapes=shapes).module()
    for rows in (5, 1):
        expected = nms_keep(boxes[:rows], valid[:rows], THRESHOLD, None, "ragged")
        assert torch.equal(exported(boxes[:rows], valid[:rows]), expected)


def test_several_threads_give_the_same() -> None:
    boxes, valid, group = problem(problems=8)
    one = nms_keep(boxes, valid, THRESHOLD, group, "ragged")
    torch.set_num_threads(2)
    try:
        two = nms_keep(boxes, valid, THRESHOLD, group, "ragged")
    finally:
        torch.set_num_threads(1)
    assert torch.equal(one, two)


def test_the_device_chooses() -> None:
    assert default_backend(torch.device("cpu")) == "ragged"
    assert default_backend(torch.device("cuda")) == "static"


def test_only_later_rows_are_suppressed() -> None:
    boxes, _, _ = problem(1)
    assert not suppression_matrix(boxes, THRESHOLD).tril().any()
