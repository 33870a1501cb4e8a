"""Trains torchvision's Faster or Mask R-CNN with an experiment's data, recipe and minutes.

The peer of our tables: the same batches from the same loader, the same widths, anchors, sampling,
optimiser, precision and shape of the schedule; the loop is torchvision's own forward.

    python tools/benchmarks/train_torchvision.py experiment=bccd_faster_rcnn paths.data=DATA \
        minutes=9
    python tools/benchmarks/train_torchvision.py experiment=pennfudan_mask_rcnn paths.data=DATA \
        minutes=5
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from peer_training import prepare, print_metrics, train
from torch import Tensor

from densekit.app.studies.benchmark.peers import torchvision_detector, torchvision_targets
from densekit.inference import WholeImage
from densekit.interop import from_torchvision
from densekit.model import UINT8_MAX, DenseModel


def targets_of(batch: Any) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """A batch of ours as torchvision takes it."""
    images = [
        image[:, :height, :width].float() / UINT8_MAX
        for image, (height, width) in zip(batch["image"], batch["size"].tolist(), strict=True)
    ]
    return images, torchvision_targets(batch)


@torch.inference_mode()
def evaluate(model: DenseModel, loader: Any, names: list[str]) -> dict[str, float]:
    """The head's own COCO metrics, through our evaluation."""
    metrics = model.heads["detection"].make_metrics({"names": names}).values()
    infer = WholeImage()
    for batch in loader:
        results = infer(model, model.resized(batch))
        for metric in metrics:
            metric.update([result["detection"] for result in results], batch["truth"])
    values = [metric.compute() for metric in metrics]
    return {name: float(value) for found in values for name, value in found.items()}


def main(arguments: list[str]) -> None:
    """Trains and prints the metrics of the test split."""
    job = prepare(arguments)
    resize = job.model.info["resize"]
    peer = torchvision_detector(job.model, min_size=resize["min_size"], max_size=resize["max_size"])
    train(job, peer, lambda batch: torch.stack(list(peer(*targets_of(batch)).values())).sum())
    names = job.source.describe()["names"]
    loader = job.source.eval_loader("test")
    print_metrics(evaluate(from_torchvision(peer.eval(), names), loader, names))


if __name__ == "__main__":
    main(sys.argv[1:])
