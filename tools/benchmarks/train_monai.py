"""Trains MONAI's U-Net with an experiment's volumes, patches and minutes.

The peer of our medical tables: the same patches, batches, optimiser and shape of the schedule;
network and loss are MONAI's (UNet of 16 to 256 channels with residual units, DiceCELoss).

    python tools/benchmarks/train_monai.py experiment=hippocampus_unet3d paths.data=DATA minutes=10
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from monai.inferers.inferer import SlidingWindowInferer
from monai.losses.dice import DiceCELoss
from monai.networks.nets.unet import UNet
from peer_training import Job, prepare, print_metrics, train
from torch import Tensor, nn

from densekit.inference.restore import restore

CHANNELS = (16, 32, 64, 128, 256)


def peer_of(job: Job) -> nn.Module:
    """MONAI's network for the volumes of the experiment."""
    return UNet(
        spatial_dims=3,
        in_channels=len(job.info["mean"]),
        out_channels=_classes(job),
        channels=CHANNELS,
        strides=(2,) * (len(CHANNELS) - 1),
        num_res_units=2,
    )


def normalised(job: Job, batch: Any) -> Tensor:
    """Images as our model would see them, padded to what the peer divides them by."""
    image = job.model.normalise(batch["image"], batch["size"])
    divisor = 2 ** (len(CHANNELS) - 1)
    padding = [side for length in image.shape[:1:-1] for side in (0, -length % divisor)]
    return nn.functional.pad(image, padding)


@torch.inference_mode()
def evaluate(peer: nn.Module, job: Job) -> dict[str, Any]:
    """The experiment's metrics of the test split."""
    peer.eval()
    head = next(iter(job.model.heads))
    infer = SlidingWindowInferer(tuple(_patch(job)), overlap=0.5, mode="gaussian")
    for batch in job.source.eval_loader("test"):
        images = job.model.normalise(batch["image"], batch["size"])
        results = []
        for image, size, meta in zip(images, batch["size"], batch["meta"], strict=True):
            # Without padding: an instance norm must not see it.
            inside = image[(slice(None), *(slice(side) for side in size.tolist()))]
            logits: Any = infer(inside[None], peer)
            results += restore({head: {"logits": logits}}, {"size": size[None], "meta": [meta]})
        job.metrics.update(results, batch["truth"])
    return dict(job.metrics.compute())


def _classes(job: Job) -> int:
    return int(next(iter(job.info["heads"].values()))["num_classes"])


def _patch(job: Job) -> Any:
    batch = next(iter(job.source.train_loader()))
    return batch["image"].shape[2:]


def main(arguments: list[str]) -> None:
    """Trains and prints the metrics of the test split."""
    job = prepare(arguments)
    peer = peer_of(job)
    criterion = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)

    def step(batch: Any) -> Tensor:
        image = normalised(job, batch)
        mask = batch["mask"]
        inside = tuple(slice(side) for side in mask.shape[1:])
        logits = peer(image)[(slice(None), slice(None), *inside)]
        # MONAI knows no ignored voxels: those outside a volume count as background.
        target = mask.masked_fill(mask == 255, 0)[:, None].float()
        loss: Tensor = criterion(logits.float(), target)
        return loss

    train(job, peer, step)
    print_metrics(evaluate(peer, job))


if __name__ == "__main__":
    main(sys.argv[1:])
