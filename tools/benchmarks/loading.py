"""Decoding, augmenting and collating in images per second of one core: torchvision against ours.

    python tools/benchmarks/loading.py data=../shared/data rounds=3

torchvision's pipelines are those of its reference training scripts, built from its transforms:
detection decodes with Pillow, draws the shorter side (`multiscale`), flips, and converts to float;
segmentation draws the scale, flips, crops, converts and normalises. `tensor` is the scripts'
other backend, which resizes uint8 tensors. Ours do the same by `densekit.data`, and hand out
padded batches in uint8, which the model normalises on its device.

First both run without chance: images and targets must agree. Then they alternate, in one thread,
over the same files; processor time counts, so that other programs matter less.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection as TorchvisionCoco
from torchvision.datasets import wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from densekit.app.options.table import Option, split_options, text, whole
from densekit.data import Augment, Chain, CocoDetection, MaskList, Resize
from densekit.data.collate import collate

OPTIONS = [
    Option("data", text("FOLDER"), "../shared/data", "holds coco_small and camvid"),
    Option("images", whole(1), 120, "images of each set"),
    Option("batch", whole(1), 4, "images per batch"),
    Option("rounds", whole(1), 3, "timed rounds"),
]
COCO, ANNOTATIONS = "train2017", "annotations/instances_train2017.json"
SIDES, LONGEST = (640, 672, 704, 736, 768, 800), 1333
SHORTER, CROP, SCALES = 360, (256, 320), (0.75, 1.5)
PROOF, PIXELS, SAME_LABELS, VOID = 8, 1e-3, 0.98, 11
"""Of the proof: images, pixels between boxes, share of equal labels (both take the nearest pixel,
by another rounding), and CamVid's void class, which is 255 for us."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Pipeline = Callable[[Sequence[int]], Any]


def torchvision_detection(root: Path, sides: Sequence[int], flip: float, backend: str) -> Pipeline:
    """Its batches: tuples of images and of targets."""
    data = TorchvisionCoco(str(root / COCO), str(root / ANNOTATIONS))
    steps = [
        *([v2.PILToTensor()] if backend == "tensor" else []),
        v2.RandomShortestSize(min_size=list(sides), max_size=LONGEST),
        v2.RandomHorizontalFlip(p=flip),
        *([v2.PILToTensor()] if backend == "pil" else []),
        v2.ToDtype(torch.float, scale=True),
    ]
    data.transforms = v2.Compose(steps)
    wrapped = wrap_dataset_for_transforms_v2(data, target_keys=["boxes", "labels", "image_id"])
    return lambda batch: tuple(zip(*(wrapped[i] for i in batch), strict=True))


def our_detection(root: Path, sides: Sequence[int], flip: float) -> Pipeline:
    """Our padded batches."""
    data = CocoDetection(root=str(root), images=COCO, annotations=ANNOTATIONS)
    augment = Augment({"HorizontalFlip": {"p": flip}})
    return batches(data, Chain({"augment": augment, "resize": Resize(sides, LONGEST)}))


class Masks(torch.utils.data.Dataset[Any]):
    """Images and masks as Pillow opens them, like torchvision's own data sets."""

    def __init__(self, root: Path, transforms: Any) -> None:
        lines = (root / "train.txt").read_text().splitlines()
        self.pairs = [[root / name for name in line.split()] for line in lines]
        self.transforms = transforms

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        image, mask = (Image.open(file) for file in self.pairs[index])
        return self.transforms(image.convert("RGB"), tv_tensors.Mask(np.array(mask)))


def torchvision_segmentation(
    root: Path, scales: Sequence[float], flip: float, crop: Sequence[int], backend: str
) -> Pipeline:
    """Its batches; the reference's collate pads images whose sizes differ, here none does."""
    low, high = (round(SHORTER * scale) for scale in scales)
    kinds = {tv_tensors.Image: torch.float, tv_tensors.Mask: torch.int64, "others": None}
    change = [
        v2.RandomResize(low, high + 1),
        v2.RandomHorizontalFlip(p=flip),
        v2.RandomCrop(crop, pad_if_needed=True, fill={tv_tensors.Mask: 255, "others": 0}),
    ]
    to_image = [v2.ToImage()]
    steps = [*to_image, *change] if backend == "tensor" else [*change, *to_image]
    pipeline = v2.Compose([*steps, v2.ToDtype(kinds, scale=True), v2.Normalize(MEAN, STD)])
    data = Masks(root, pipeline)

    def batch(indices: Sequence[int]) -> Any:
        images, masks = zip(*(data[i] for i in indices), strict=True)
        return torch.stack(images), torch.stack(masks)

    return batch


def our_segmentation(
    root: Path, scales: Sequence[float], flip: float, crop: Sequence[int]
) -> Pipeline:
    """Our batches."""
    data = MaskList(root=str(root), list_file="train.txt", ignore=[11])
    steps: dict[str, dict[str, Any]] = {
        "RandomScale": {"scale_limit": [scale - 1 for scale in scales], "p": 1},
        "RandomCrop": {"height": crop[0], "width": crop[1]},
        "HorizontalFlip": {"p": flip},
    }
    return batches(data, Augment(steps))


def batches(data: Any, transform: Any) -> Pipeline:
    """What a training loader does with each batch, every image with its own generator."""

    def load(indices: Sequence[int]) -> Any:
        rngs = [np.random.default_rng((0, 0, index)) for index in indices]
        samples = [transform(data[i], rng) for i, rng in zip(indices, rngs, strict=True)]
        return collate(samples, training=True)

    return load


def check_detection(root: Path) -> str:
    """Compares batches of one size, all flipped.

    Raises:
        RuntimeError: Sizes or boxes differ.
    """
    images, targets = torchvision_detection(root, SIDES[-1:], 1, "pil")(range(PROOF))
    batch = our_detection(root, SIDES[-1:], 1)(range(PROOF))
    worst = 0.0
    for i, (image, target) in enumerate(zip(images, targets, strict=True)):
        height, width = batch["size"][i].tolist()
        boxes = batch["boxes"][i][batch["boxes_valid"][i]]
        gap = (boxes - target["boxes"]).abs().max() if len(boxes) == len(target["boxes"]) else 1
        if tuple(image.shape[1:]) != (height, width) or gap > PIXELS:
            raise RuntimeError(f"image {i}: expected {image.shape}, {target['boxes']}; got {boxes}")
        worst = max(worst, float((255 * image - batch["image"][i, :, :height, :width]).abs().max()))
    return f"boxes within {PIXELS} pixels, values within {worst:.0f} of 255"


def check_segmentation(root: Path) -> str:
    """Compares batches of one scale, all flipped and uncropped.

    Raises:
        RuntimeError: Sizes or values differ.
    """
    scales, crop = (1.25, 1.25), (450, 600)
    images, masks = torchvision_segmentation(root, scales, 1, crop, "pil")(range(PROOF))
    batch = our_segmentation(root, scales, 1, crop)(range(PROOF))
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    gap = float((255 * (images * std + mean) - batch["image"]).abs().mean())
    same = float((torch.where(masks == VOID, 255, masks) == batch["mask"]).float().mean())
    if gap > 1 or same < SAME_LABELS:
        raise RuntimeError(f"expected equal batches, got a gap of {gap} and {same} equal labels")
    return f"values differ by {gap:.2f} of 255 in the mean, {same:.1%} of the labels are equal"


def rates(pipelines: Mapping[str, Pipeline], options: Mapping[str, Any]) -> dict[str, float]:
    """Images per second of one core, medians of rounds that alternate."""
    images, batch = options["images"], options["batch"]
    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(options["rounds"] + 1):
        for name, load in pipelines.items():
            start = time.process_time()
            for first in range(0, images, batch):
                load(range(first, min(first + batch, images)))
            seconds[name].append(time.process_time() - start)
    return {name: images / statistics.median(values[1:]) for name, values in seconds.items()}


def report(task: str, proof: str, rate: Mapping[str, float]) -> None:
    """Prints one line per pipeline, with its ratio to torchvision's default."""
    print(f"{task}: {proof}")
    first = next(iter(rate.values()))
    for name, value in rate.items():
        print(f"  {name:20} {value:6.0f} images/s  {value / first:.2f}")


def main(arguments: list[str]) -> None:
    """Prints the rates of both tasks."""
    options, _ = split_options(arguments, OPTIONS)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    coco, camvid = (Path(options["data"]) / name for name in ("coco_small", "camvid"))
    detection = {
        "torchvision": torchvision_detection(coco, SIDES, 0.5, "pil"),
        "torchvision, tensor": torchvision_detection(coco, SIDES, 0.5, "tensor"),
        "densekit": our_detection(coco, SIDES, 0.5),
    }
    report("detection", check_detection(coco), rates(detection, options))
    segmentation = {
        "torchvision": torchvision_segmentation(camvid, SCALES, 0.5, CROP, "pil"),
        "torchvision, tensor": torchvision_segmentation(camvid, SCALES, 0.5, CROP, "tensor"),
        "densekit": our_segmentation(camvid, SCALES, 0.5, CROP),
    }
    report("segmentation", check_segmentation(camvid), rates(segmentation, options))


if __name__ == "__main__":
    main(sys.argv[1:])
