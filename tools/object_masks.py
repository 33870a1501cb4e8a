"""What it costs to hold masks of objects in the frames of their boxes instead of as planes.

Targets of 28 x 28 bins, as a mask head learns them, are made for regions that overlap an object as
proposals do, once from the frames of a batch and once from planes of the whole image, with
detectron2's RoIAlign. Their IoU, counting bins from 0.5, is the loss of accuracy; the bytes of both
forms are the gain. Then the loader reads the same images with and without masks.

    python tools/object_masks.py data=FOLDER_WITH_COCO images=100
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from densekit.data import Augment, Chain, CocoDetection, Dataset, Resize
from densekit.data.collate import collate
from densekit.ops.mask_targets import targets_from_frames, targets_from_planes
from densekit.types import Sample

BINS = 28
SIZES = (32, 112, 300)
"""Mean sides in pixels that divide the objects into groups."""
MOVED = 0.15
"""Largest shift of a region's side, as a share of the object's."""
ROUNDS = 3
CHANGES = Chain(
    {"flip": Augment({"HorizontalFlip": {"p": 0.5}}), "resize": Resize([800], max_size=1333)}
)


def samples(data: Dataset, count: int) -> Iterator[Sample]:
    """The first images, flipped and resized as in training."""
    for index in range(min(count, len(data))):
        yield CHANGES(data[index], np.random.default_rng(index))


def overlaps(sample: Sample, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Yields the mean side of each object in pixels, and the IoU of its two targets."""
    whole = (sample["instance_masks"] != 255).all(axis=(1, 2)) & ~sample["crowd"]
    boxes = torch.from_numpy(sample["boxes"][whole])
    if not len(boxes):
        return
    height, width = sample["image"].shape[:2]
    sides = boxes[:, 2:] - boxes[:, :2]
    shift = torch.from_numpy(rng.uniform(-MOVED, MOVED, boxes.shape).astype(np.float32))
    regions = (boxes + shift * sides.repeat(1, 2)).clamp(min=0)
    regions = regions.minimum(regions.new_tensor([width, height, width, height]))
    frames = collate([sample], training=True)["object_masks"][0, : len(whole)]
    planes = torch.from_numpy(sample["instance_masks"][whole])
    own, _ = targets_from_frames(frames[torch.from_numpy(whole)], boxes, regions, BINS)
    row = torch.arange(len(boxes))
    reference, _ = targets_from_planes(planes, row, regions, BINS, aligned=True)
    found = _iou(own >= 0.5, reference >= 0.5)
    yield from zip(sides.prod(1).sqrt().tolist(), found.tolist(), strict=True)


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """(R,) IoU of masks (R, m, m); 1 where both are empty."""
    union = (first | second).sum((1, 2))
    return torch.where(union > 0, (first & second).sum((1, 2)) / union.clamp(min=1), 1)


def main(words: Sequence[str]) -> None:
    """Prints the figures."""
    options = dict(word.split("=", 1) for word in words)
    root, count = Path(options["data"]), int(options.get("images", "100"))
    file = "annotations/instances_val2017.json"
    data = {m: CocoDetection(root, "val2017", file, instance_masks=m) for m in (False, True)}
    torch.set_num_threads(1)
    rng, groups = np.random.default_rng(0), defaultdict[str, list[float]](list)
    planes = frames = 0
    for sample in samples(data[True], count):
        planes += sample["instance_masks"].nbytes
        frames += 112 * 112 * len(sample["boxes"])
        for side, iou in overlaps(sample, rng):
            bound = next((size for size in SIZES if side < size), None)
            groups[f"below {bound:3d} pixels" if bound else f"from  {SIZES[-1]} pixels"].append(iou)
    every = [iou for group in groups.values() for iou in group]
    print(f"IoU of the targets of {len(every)} objects: {np.mean(every):.4f}")
    for name, found in sorted(groups.items()):
        print(f"  {name}: {np.mean(found):.4f} ({len(found)})")
    print(f"planes: {planes / count / 1e6:.1f} MB per image; frames: {frames / count / 1e6:.2f} MB")
    speeds = defaultdict[bool, list[float]](list)
    for masks in (False, True) * ROUNDS:
        start = time.perf_counter()
        for sample in samples(data[masks], count):
            collate([sample], training=True)
        speeds[masks].append(count / (time.perf_counter() - start))
    print(
        f"loader, one process: {max(speeds[True]):.0f} images/s with masks,"
        f" {max(speeds[False]):.0f} without"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
