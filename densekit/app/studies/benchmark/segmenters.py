"""Smp's U-Net or DeepLabV3+ and ours with the same weights, images and loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from densekit.app.errors import UsageError
from densekit.app.studies.benchmark.images import batch_of
from densekit.app.studies.benchmark.pair import (
    Options,
    Pair,
    as_text,
    check_losses,
    predictions_of,
    rows_of,
)
from densekit.app.studies.benchmark.work import Work
from densekit.data import SemanticScenes
from densekit.interop import from_smp

PEER = "smp"
PROOF_SIZE, PROOF_BATCH = [128, 160], 2
LOGIT_TOLERANCE = 1e-4
DIVISOR = 32
"""Sides of images must be multiples of it for smp."""


def segmenter_work(options: Options) -> Work:
    """A training step with cross-entropy, or a prediction of the logits.

    Raises:
        UsageError: Smp does not take these images or classes.
        RuntimeError: Losses or logits differ: timing unequal models means nothing.
    """
    if any(side % DIVISOR for side in options["size"]):
        raise UsageError(f"size: expected multiples of {DIVISOR} for smp, got {options['size']}")
    if options["classes"] < 2:
        raise UsageError(f"classes: expected at least 2 for smp, got {options['classes']}")
    proof = segmenter_pair(options, PROOF_SIZE, PROOF_BATCH, proof=True)
    gap = check_losses(proof)
    check_logits(proof)
    pair = segmenter_pair(options, options["size"], options["batch"])
    return Work(
        f"{options['step']}: {type(pair.theirs).__name__}, ResNet-{options['depth']},"
        f" {options['batch']} x {as_text(options['size'])}",
        f"losses within {gap:.1e} (relative), logits within {LOGIT_TOLERANCE}",
        rows_of(pair, options),
    )


def segmenter_pair(
    options: Options, size: Sequence[int], batch: int, *, proof: bool = False
) -> Pair:
    """Both networks with seeded random weights; for the proof without dropout, which is random."""
    import segmentation_models_pytorch as smp

    make = {"unet": smp.Unet, "deeplabv3plus": smp.DeepLabV3Plus}[options["work"]]
    torch.manual_seed(0)
    theirs: Any = make(
        f"resnet{options['depth']}", encoder_weights=None, classes=int(options["classes"])
    ).to(options["device"])
    ours: Any = from_smp(theirs).to(memory_format=torch.channels_last)
    if proof:
        for module in (*theirs.modules(), *ours.modules()):
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    data: Any = batch_of(SemanticScenes("train", batch, size=size), options["device"])
    data["mask"] = data["mask"] % int(options["classes"])
    images, mask = data["image"].float() / 255, data["mask"].long()
    return Pair(
        PEER,
        theirs,
        ours,
        data,
        lambda model: {"segmentation/ce": F.cross_entropy(model(images), mask)},
        lambda model: model(images),
    )


def check_logits(pair: Pair) -> None:
    """Checks that the logits of every pixel agree.

    Raises:
        RuntimeError: They differ.
    """
    theirs, ours = predictions_of(pair)
    gap = (theirs - ours["logits"]).abs().max()
    if not gap <= LOGIT_TOLERANCE:
        raise RuntimeError(
            f"logits: expected at most {LOGIT_TOLERANCE} from the peer's, got {float(gap):.1e}"
        )
