"""RISE and D-RISE by xaitk-saliency: which random masks keep the prediction.

Shape letters: N masks, C channels, S the sizes of an image, s those of a mask.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from densekit._extras import need
from densekit.explain.settings import Settings
from densekit.explain.subject import Subject
from densekit.explain.target import Target
from densekit.ops.interpolation import resize_linear

KEPT = 0.5
"""Probability that a cell of a mask keeps the image."""
LONGEST = 128
"""Longer side of a mask in pixels. Masks are smooth: their cells are larger than the pixels that
are lost, and 5,000 masks take 330 MB instead of 6 GB at 640 x 480."""


def rise(subject: Subject, target: Target, settings: Settings) -> Tensor:
    """RISE (Petsiuk et al. 2018): the mean of random masks weighted by the masked image's score.

    With the score of a box it is D-RISE (Petsiuk et al. 2021). Masked pixels take the mean of the
    training data. Scores and masks are centred, which leaves the expected map as it is and removes
    the variance that few masks would have.

    Returns:
        (*S) in -1..1.
    """
    masks = random_masks(subject.sides, settings)
    scores = subject.scores(_masked(subject, masks), target)
    scoring = need("xaitk_saliency.impls.gen_classifier_conf_sal.rise_scoring", *_FOR)
    centred = (scores - scores.mean())[:, None]  # (N, 1)
    reference = np.zeros(1)  # RISE has no use for it
    saliency = scoring.RISEScoring(p1=KEPT).generate(reference, centred, masks)  # (1, *s)
    small = torch.from_numpy(saliency)[None].float()
    return resize_linear(small, subject.sides)[0, 0]


def random_masks(sides: tuple[int, ...], settings: Settings) -> NDArray[np.float32]:
    """Returns the masks (N, *s) in 0..1 for images of two sides."""
    grids = need("xaitk_saliency.impls.perturb_image.rise", *_FOR)
    scale = min(1.0, LONGEST / max(sides))
    small = tuple(max(1, round(side * scale)) for side in sides)
    grid = grids.RISEGrid(settings.masks, settings.grid, KEPT, settings.seed, threads=0)
    masks: NDArray[np.float32] = grid.perturb(np.empty(small, np.uint8))
    return masks


_FOR = ("method=rise", "explain")


def _masked(subject: Subject, masks: NDArray[np.float32]) -> Iterator[Tensor]:
    """The image (C, *S) under each mask."""
    fill = subject.fill
    for mask in masks:
        kept = resize_linear(torch.from_numpy(mask)[None, None], subject.sides)[0]  # (1, *S)
        yield torch.lerp(fill.expand_as(subject.image), subject.image, kept.to(subject.image))
