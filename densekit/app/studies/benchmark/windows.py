"""MONAI's sliding window and ours around the same network, in eager mode."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from densekit._extras import need
from densekit.app.studies.benchmark.images import batch_of
from densekit.app.studies.benchmark.pair import Options, as_text, autocast, cost_of
from densekit.app.studies.benchmark.work import OURS, Row, Work
from densekit.backbones import ResNet
from densekit.data import SemanticScenes
from densekit.heads import UNet
from densekit.inference import SlidingWindow
from densekit.layers import channels_last_weights
from densekit.model import DenseModel

HEAD, OVERLAP = "segmentation", 0.5
SIGMA = 0.125
TOLERANCE = 1e-4


def window_work(options: Options) -> Work:
    """Averaged logits of an image from windows of half its sides, half of which overlap.

    Raises:
        ImportError: MONAI is not installed.
        RuntimeError: The logits differ.
    """
    need("monai", "work=sliding_window")
    torch.manual_seed(0)
    head = partial(UNet, num_classes=int(options["classes"]))
    model = DenseModel(ResNet(int(options["depth"])), {HEAD: head}).to(options["device"]).eval()
    channels_last_weights(model)
    size = options["size"]
    data: Any = batch_of(SemanticScenes("train", 1, size=size), options["device"])
    inferer = SlidingWindow([side // 2 for side in size], OVERLAP, int(options["batch"]))

    def ours() -> Tensor:
        logits: Tensor = inferer.predict(model, data)[HEAD]["logits"]
        return logits

    def theirs() -> Tensor:
        return monai_logits(model, data["image"], inferer)

    gap = _gap(ours, theirs)
    calls = {"monai": theirs, OURS: ours}

    def run(who: str, precision: str) -> Tensor:
        with torch.no_grad(), autocast(options["device"], precision):
            return calls[who]()

    costs = {who: cost_of(model, partial(run, who, "fp32")) for who in calls}
    rows = [
        Row(who, "eager", precision, partial(partial, run, who, precision), costs[who])
        for who in calls
        for precision in options["precision"]
    ]
    title = f"sliding window: U-Net, ResNet-{options['depth']}, 1 x {as_text(size)}"
    return Work(
        f"{title} in windows of {as_text(inferer.window)}, {options['batch']} at a time",
        f"logits within {gap:.1e}",
        rows,
    )


def monai_logits(model: DenseModel, image: Tensor, like: SlidingWindow) -> Tensor:
    """(1, K, *S): MONAI's inferer around the same layers.

    The image is normalised first, so that what MONAI pads is zero for the network, as ours is.

    Args:
        model: With one head.
        image: (1, C, *S).
        like: Our inferer, whose settings it takes.
    """
    from monai.inferers.utils import sliding_window_inference

    (head,) = model.heads.values()

    def network(x: Tensor) -> Tensor:
        size = torch.tensor([x.shape[2:]] * len(x), device=x.device)
        logits: Tensor = head(model.backbone(x), size)["logits"]
        return logits

    normalised = (image.float() - model.mean) / model.std
    found: Any = sliding_window_inference(
        normalised, like.window, like.batch_size, network, like.overlap, "gaussian", SIGMA
    )
    logits: Tensor = found
    return logits


def _gap(ours: Any, theirs: Any) -> float:
    with torch.no_grad():
        gap = float((ours() - theirs()).abs().max())
    if not gap <= TOLERANCE:
        raise RuntimeError(f"logits: expected at most {TOLERANCE} from MONAI's, got {gap:.1e}")
    return gap
