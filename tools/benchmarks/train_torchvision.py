"""Trains torchvision's Faster R-CNN with an experiment's data, recipe and minutes.

The peer of our tables: the same batches from the same loader, the same widths, anchors, sampling,
optimiser, precision and shape of the schedule; the loop is torchvision's own forward.

    python tools/benchmarks/train_torchvision.py experiment=bccd_faster_rcnn paths.data=DATA \
        minutes=9
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from peer_training import prepare, print_metrics, train
from torch import Tensor
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from densekit.inference import WholeImage
from densekit.interop import from_torchvision
from densekit.metrics import CocoMap
from densekit.model import UINT8_MAX, DenseModel


def peer_of(model: DenseModel) -> FasterRCNN:
    """The peer with the settings of ours, freshly initialised; R18 alone."""
    head: Any = model.heads["detection"]
    rpn, box = head.rpn, head.box_head
    body = resnet18(weights=None)
    layers = {f"layer{number}": str(number - 1) for number in range(1, 5)}
    width = box.hidden[0].in_features // box.pool.output**2
    backbone = BackboneWithFPN(body, layers, [64, 128, 256, 512], width)
    pool = MultiScaleRoIAlign(
        ["0", "1", "2", "3"],
        box.pool.output,
        box.pool.samples,
        canonical_scale=int(box.pool.canonical_size),
    )
    hidden = box.hidden[0].out_features
    rule, resize = rpn.proposals, model.info["resize"]
    return FasterRCNN(
        backbone,
        min_size=resize["min_size"],
        max_size=resize["max_size"],
        image_mean=[value / UINT8_MAX for value in model.info["mean"]],
        image_std=[value / UINT8_MAX for value in model.info["std"]],
        rpn_anchor_generator=AnchorGenerator(
            rpn.grid.sizes, (rpn.grid.aspect_ratios,) * len(rpn.grid.sizes)
        ),
        rpn_pre_nms_top_n_train=rule.train_pre_nms,
        rpn_pre_nms_top_n_test=rule.test_pre_nms,
        rpn_post_nms_top_n_train=rule.train_post_nms,
        rpn_post_nms_top_n_test=rule.test_post_nms,
        box_roi_pool=pool,
        box_head=TwoMLPHead(width * box.pool.output**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, head.num_classes + 1),
        box_batch_size_per_image=box.sampling.count,
        box_positive_fraction=box.sampling.positive_fraction,
    )


def targets_of(batch: Any) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """A batch of ours as torchvision takes it."""
    images, targets = [], []
    for row in range(len(batch["image"])):
        height, width = batch["size"][row].tolist()
        valid = batch["boxes_valid"][row]
        images.append(batch["image"][row, :, :height, :width].float() / UINT8_MAX)
        targets.append(
            {"boxes": batch["boxes"][row][valid], "labels": batch["labels"][row][valid] + 1}
        )
    return images, targets


@torch.inference_mode()
def evaluate(model: DenseModel, loader: Any, names: list[str]) -> dict[str, float]:
    """COCO metrics, through our evaluation."""
    metric, infer = CocoMap(names), WholeImage()
    for batch in loader:
        results = infer(model, model.resized(batch))
        metric.update([result["detection"] for result in results], batch["truth"])
    return {name: float(value) for name, value in metric.compute().items()}


def main(arguments: list[str]) -> None:
    """Trains and prints the metrics of the test split."""
    job = prepare(arguments)
    peer = peer_of(job.model)
    train(job, peer, lambda batch: torch.stack(list(peer(*targets_of(batch)).values())).sum())
    names = job.source.describe()["names"]
    loader = job.source.eval_loader("test")
    print_metrics(evaluate(from_torchvision(peer.eval(), names), loader, names))


if __name__ == "__main__":
    main(sys.argv[1:])
