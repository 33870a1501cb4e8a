"""Faithfulness: what the score does when the most salient pixels are deleted or inserted.

Petsiuk et al. 2018, "RISE: randomized input sampling for explanation of black-box models",
section 4.

Shape letters: C channels, S the sizes of an image, P its pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from densekit.explain.subject import Subject
from densekit.explain.target import Target

BLUR = 0.05
"""Standard deviation of the blur from which insertion starts, as a share of each side."""


@dataclass(frozen=True)
class Faithfulness:
    """Areas under the curves of a map.

    Attributes:
        deletion: Mean score while pixels are replaced by the mean of the training data, the most
            salient first; lower is better.
        insertion: Mean score while the blurred image gets its pixels back, the most salient first;
            higher is better.
    """

    deletion: float
    insertion: float


def faithfulness(subject: Subject, target: Target, saliency: Tensor, steps: int) -> Faithfulness:
    """Measures a map; takes 2 (steps + 1) predictions.

    Args:
        subject: The image.
        target: What is explained.
        saliency: (*S) in the network's frame.
        steps: Number of equal parts of the pixels.
    """
    image = subject.image
    mean, blur = subject.fill.expand_as(image), blurred(image)
    deleted = subject.scores(replaced(image, mean, saliency, steps), target)
    inserted = subject.scores(replaced(blur, image, saliency, steps), target)
    return Faithfulness(area(deleted), area(inserted))


def area(scores: NDArray[np.float64]) -> float:
    """Returns the area under a curve of equidistant points from 0 to 1, by trapezoids."""
    return float((scores[1:] + scores[:-1]).mean() / 2)


def replaced(start: Tensor, end: Tensor, saliency: Tensor, steps: int) -> Iterator[Tensor]:
    """Yields steps + 1 images from `start` to `end`, the most salient pixels replaced first.

    Args:
        start: (C, *S).
        end: (C, *S).
        saliency: (*S); equal values in the order of the pixels.
        steps: Number of equal parts of the pixels.
    """
    order = saliency.flatten().argsort(descending=True, stable=True)  # (P,)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    rank = rank.view(saliency.shape).to(start.device)
    for step in range(steps + 1):
        yield torch.where(rank < round(len(order) * step / steps), end, start)


def blurred(image: Tensor) -> Tensor:
    """Returns an image (C, *S) without its details, see `BLUR`."""
    sigma = (0.0, *(BLUR * side for side in image.shape[1:]))
    smooth = gaussian_filter(image.cpu().numpy(), sigma, mode="nearest")
    return torch.from_numpy(smooth).to(image)


def random_map(saliency: Tensor, seed: int) -> Tensor:
    """Returns a random map that is as smooth as another: its spectrum with random phases.

    Independent random pixels would be no fair opponent: scattered deletions destroy an image
    faster than any coherent region.

    Args:
        saliency: (*S).
        seed: Of the phases.
    """
    values = saliency.double().numpy()
    noise = np.fft.fftn(np.random.default_rng(seed).standard_normal(values.shape))
    spectrum = np.abs(np.fft.fftn(values - values.mean()))
    surrogate = np.fft.ifftn(spectrum * noise / np.maximum(np.abs(noise), 1e-12)).real
    return torch.from_numpy(surrogate).float()
