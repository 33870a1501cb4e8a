"""Greedy non-maximum suppression over batches of sorted problems, in two equal back ends.

`ragged` calls torchvision's kernel for each problem, on several threads: for CPUs. `static` has
static shapes and no host synchronisation under `torch.compile`: for GPUs, CUDA graphs and export.
Both keep exactly the boxes that greedy suppression keeps: a box survives if it is valid and no
surviving box before it, of its own group, overlaps it by more than the threshold.

Shape letters: P problems, N boxes a problem.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import nms as torchvision_nms

from densekit.ops.boxes import box_area, exact, intersection

Backend = Literal["ragged", "static"]
MAX_PAIRS = 1 << 26
"""Pairs of boxes that `static` looks at together, 16 bytes each at the peak: about 1.1 GB."""


def default_backend(device: torch.device) -> Backend:
    """`ragged` where synchronising with the host is free, else `static`."""
    return "ragged" if device.type == "cpu" and not torch.compiler.is_exporting() else "static"


def nms_keep(
    boxes: Tensor,
    valid: Tensor,
    iou_threshold: float,
    group: Tensor | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """Marks the boxes that survive suppression.

    Args:
        boxes: (P, N, 4) floats, each problem sorted by falling score.
        valid: (P, N) bool; other rows neither survive nor suppress.
        iou_threshold: Overlaps above it are suppressed.
        group: (P, N) int64; boxes of different groups, e.g. classes, do not suppress each other.
        backend: See the module; by default chosen by the device.

    Returns:
        (P, N) bool.
    """
    boxes = exact(boxes)
    if (backend or default_backend(boxes.device)) == "static":
        return _in_chunks(boxes, valid, iou_threshold, group)
    group = torch.zeros_like(valid, dtype=torch.int64) if group is None else group
    keep: Tensor = _ragged(boxes, valid, group, iou_threshold)
    return keep


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="nms")


def _ragged_one(boxes: Tensor, valid: Tensor, group: Tensor, iou_threshold: float) -> Tensor:
    """One call of the kernel a group, as in the per-class branch of torchvision's batched_nms."""
    keep = torch.zeros_like(valid)
    rows = valid.nonzero()[:, 0]
    group, by_group = group[rows].sort(stable=True)
    _, sizes = torch.unique_consecutive(group, return_counts=True)
    for part in rows[by_group].split(sizes.tolist()):
        # falling scores restate the order: the kernel sorts stably
        score = torch.arange(len(part), 0, -1, dtype=boxes.dtype, device=boxes.device)
        keep[part[torchvision_nms(boxes[part], score, iou_threshold)]] = True
    return keep


@torch.library.custom_op("densekit::nms_keep_ragged", mutates_args=())
def _ragged(boxes: Tensor, valid: Tensor, group: Tensor, iou_threshold: float) -> Tensor:
    """The kernel runs on one thread and releases the interpreter: one problem a thread."""
    problems = list(zip(boxes, valid, group, strict=True))
    threads = torch.get_num_threads()

    def solve(problem: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return _ragged_one(*problem, iou_threshold)

    if boxes.device.type != "cpu" or threads == 1 or len(problems) == 1:
        kept = [solve(problem) for problem in problems]
    else:
        kept = list(_pool(threads).map(solve, problems))
    return torch.stack(kept) if kept else torch.zeros_like(valid)


@_ragged.register_fake
def _(boxes: Tensor, valid: Tensor, group: Tensor, iou_threshold: float) -> Tensor:
    return torch.empty_like(valid)


def suppression_matrix(boxes: Tensor, iou_threshold: float) -> Tensor:
    """(P, N, N) bool: row i overlaps the later row j by more than the threshold."""
    inter = intersection(boxes, boxes)
    area = box_area(boxes)
    iou = inter / (area[..., :, None] + area[..., None, :] - inter)
    return (iou > iou_threshold).triu(diagonal=1)


def _in_chunks(boxes: Tensor, valid: Tensor, iou_threshold: float, group: Tensor | None) -> Tensor:
    """`_static` on as many problems at once as memory allows; shapes alone decide how many.

    An exported program keeps its number of problems free, so it takes them all: it runs on the
    boxes of inference, which are half as many an image.
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
    """Repeats keep <- valid & no kept row suppresses it, from keep = valid, until it stands still.

    By induction over the order the only fixpoint is the greedy solution; N rounds are the worst
    case, 3 to 11 the usual one.
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
