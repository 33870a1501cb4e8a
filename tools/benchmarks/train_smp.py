"""Trains smp's model with an experiment's data, recipe and minutes (or steps).

The peer of our segmentation tables: the same batches, loss, optimiser and shape of the schedule;
the network is smp's own, the loop eager.

    python tools/benchmarks/train_smp.py experiment=camvid_unet paths.data=DATA minutes=15
"""

from __future__ import annotations

import sys
from typing import Any

import segmentation_models_pytorch as smp
import torch
from peer_training import Job, prepare, print_metrics, train
from torch import Tensor, nn

from densekit.inference.restore import restore_mask
from densekit.model import DenseModel

PEERS = {"UNet": smp.Unet, "DeepLabV3Plus": smp.DeepLabV3Plus}
DIVISOR = 32
"""smp refuses sides that do not divide by it."""


def peer_of(job: Job) -> nn.Module:
    """The network of smp's that the head of the experiment is named after, on a fresh ResNet-18."""
    name, head = next(iter(job.model.heads.items()))
    make = PEERS[type(head).__name__]
    classes = job.info["heads"][name]["num_classes"]
    channels = len(job.info["mean"])
    peer: nn.Module = make("resnet18", encoder_weights=None, in_channels=channels, classes=classes)
    return peer


def logits_of(peer: nn.Module, model: DenseModel, batch: Any) -> Tensor:
    """(B, K, H, W) at the size of the batch, which is padded for smp."""
    image = model.normalise(batch["image"], batch["size"])
    height, width = batch["image"].shape[2:]
    padding = (0, -image.shape[3] % DIVISOR, 0, -image.shape[2] % DIVISOR)
    logits: Tensor = peer(nn.functional.pad(image, padding))
    return logits[:, :, :height, :width]


@torch.inference_mode()
def evaluate(peer: nn.Module, job: Job) -> dict[str, Any]:
    """The experiment's metrics of the test split."""
    peer.eval()
    head = next(iter(job.model.heads))
    for batch in job.source.eval_loader("test"):
        logits = logits_of(peer, job.model, batch)
        results = []
        for row, (height, width) in zip(logits, batch["size"].tolist(), strict=True):
            mask = restore_mask(row[:, :height, :width], (height, width))
            results.append({head: {"mask": mask}})
        job.metrics.update(results, batch["truth"])
    return dict(job.metrics.compute())


def main(arguments: list[str]) -> None:
    """Trains and prints the metrics of the test split."""
    job = prepare(arguments)
    peer = peer_of(job)
    head: Any = next(iter(job.model.heads.values()))

    def step(batch: Any) -> Tensor:
        logits = logits_of(peer, job.model, batch)
        terms = [
            head.loss_weights.get(k, 1.0) * v(logits, batch["mask"]) for k, v in head.losses.items()
        ]
        return torch.stack(terms).sum()

    train(job, peer, step)
    print_metrics(evaluate(peer, job))


if __name__ == "__main__":
    main(sys.argv[1:])
