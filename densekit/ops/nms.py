"""Greedy non-maximum suppression over batches of sorted problems, with two equivalent back ends.

`ragged` calls torchvision's kernel for each problem, on several threads: for CPUs. `static` has
static shapes and no host synchronisation under `torch.compile`: for GPUs, CUDA graphs and export.
Both keep exactly the boxes that greedy suppression keeps: a box is kept if it is valid and no kept
box before it, of its own group, overlaps it by more than the threshold.

Shape letters: P problems, N boxes per problem.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from densekit.ops import torchvision_kernels
from densekit.ops.boxes import box_area, exact, intersection
from densekit.ops.portable import formulated_for_onnx, portable

torchvision_kernels.register()

Backend = Literal["ragged", "static"]
MAX_PAIRS = 1 << 26
"""Most pairs of boxes that `static` compares at once, 16 bytes each at the peak: about 1.1 GB."""


def default_backend(device: torch.device) -> Backend:
    """Returns `ragged` if synchronising with the host is free, else `static`."""
    return "ragged" if device.type == "cpu" and not portable() else "static"


def nms_keep(
    boxes: Tensor,
    valid: Tensor,
    iou_threshold: float,
    group: Tensor | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """Marks the boxes that suppression keeps.

    Args:
        boxes: (P, N, 4) floats, each problem sorted by descending score.
        valid: (P, N) bool; other rows are neither kept nor suppress others.
        iou_threshold: Boxes with a larger IoU are suppressed.
        group: (P, N) int64; boxes of different groups, e.g. classes, do not suppress each other.
        backend: See the module; chosen by the device by default.

    Returns:
        (P, N) bool.
    """
    boxes = exact(boxes)
    if formulated_for_onnx():
        backend = "ragged"  # a single operator, which the exporter translates
    if (backend or default_backend(boxes.device)) == "static":
        return _in_chunks(boxes, valid, iou_threshold, group)
    group = torch.zeros_like(valid, dtype=torch.int64) if group is None else group
    keep: Tensor = torch.ops.densekit.nms_keep_ragged(boxes, valid, group, iou_threshold)
    return keep


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nms")


def _ragged_one(boxes: Tensor, valid: Tensor, group: Tensor, iou_threshold: float) -> Tensor:
    """Calls the kernel once per group, as in the per-class branch of torchvision's batched_nms."""
    keep = torch.zeros_like(valid)
    rows = valid.nonzero()[:, 0]
    group, by_group = group[rows].sort(stable=True)
    _, sizes = torch.unique_consecutive(group, return_counts=True)
    for part in rows[by_group].split(sizes.tolist()):
        # descending scores keep the order: the kernel sorts stably
        score = torch.arange(len(part), 0, -1, dtype=boxes.dtype, device=boxes.device)
        keep[part[torch.ops.torchvision.nms(boxes[part], score, iou_threshold)]] = True
    return keep


# `torch.library.custom_op` would import PyTorch's compiler at the first call: a second.
torch.library.define(
    "densekit::nms_keep_ragged",
    "(Tensor boxes, Tensor valid, Tensor group, float iou_threshold) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)


@torch.library.impl("densekit::nms_keep_ragged", "default")
def _ragged(boxes: Tensor, valid: Tensor, group: Tensor, iou_threshold: float) -> Tensor:
    """Solves problems in parallel threads: the kernel is single-threaded and releases the GIL."""
    problems = list(zip(boxes, valid, group, strict=True))
    threads = torch.get_num_threads()

    def solve(problem: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return _ragged_one(*problem, iou_threshold)

    if boxes.device.type != "cpu" or threads == 1 or len(problems) == 1:
        kept = [solve(problem) for problem in problems]
    else:
        kept = list(_pool(threads).map(solve, problems))
    return torch.stack(kept) if kept else torch.zeros_like(valid)


def _traced(boxes: Tensor, valid: Tensor, group: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(valid)


torch.library.register_fake("densekit::nms_keep_ragged", _traced)


def suppression_matrix(boxes: Tensor, iou_threshold: float) -> Tensor:
    """Returns (P, N, N) bool: whether row i overlaps the later row j beyond the threshold."""
    inter = intersection(boxes, boxes)
    area = box_area(boxes)
    iou = inter / (area[..., :, None] + area[..., None, :] - inter)
    return (iou > iou_threshold).triu(diagonal=1)


def _in_chunks(boxes: Tensor, valid: Tensor, iou_threshold: float, group: Tensor | None) -> Tensor:
    """Runs `_static` on as many problems at once as memory allows, by their shapes alone.

    An exported program has a dynamic number of problems, so it takes all at once: it runs on the
    boxes of inference, which are half as many per image.
    """
    rows = max(1, MAX_PAIRS // max(1, boxes.shape[1] ** 2))
    if torch.compiler.is_exporting() or boxes.shape[0] <= rows:
        return _static(boxes, valid, iou_threshold, group)
    parts = zip(
        boxes.split(rows),
        valid.split(rows),
        [None] * len(boxes) if group is None else group.split(rows),
        strict=False,
    )
    return torch.cat([_static(b, v, iou_threshold, g) for b, v, g in parts])


def _static(boxes: Tensor, valid: Tensor, iou_threshold: float, group: Tensor | None) -> Tensor:
    """Iterates keep <- valid & not suppressed by a kept row, from keep = valid, to the fixpoint.

    By induction over the order the only fixpoint is the greedy solution; the worst case is N
    iterations, the usual one 3 to 11.
    """
    suppresses = suppression_matrix(boxes, iou_threshold)
    if group is not None:
        suppresses &= group[..., :, None] == group[..., None, :]

    def step(keep: Tensor) -> Tensor:
        return valid & ~(suppresses & keep[..., :, None]).any(-2)

    if torch.compiler.is_compiling():

        def changed(keep: Tensor, previous: Tensor) -> Tensor:
            return (keep != previous).any()

        def body(keep: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
            return step(keep), keep.clone()

        first = step(valid)
        keep, _ = torch.while_loop(changed, body, (first, valid.clone()))
        return keep  # type: ignore[no-any-return]
    keep, previous = step(valid), valid
    while not torch.equal(keep, previous):
        keep, previous = step(keep), keep
    return keep
