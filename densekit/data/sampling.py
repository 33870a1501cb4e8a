"""Rules of how often an epoch draws each image, for classes that are rare.

N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.concat import Concat
from densekit.data.protocols import Dataset
from densekit.data.reading.progress import tracked
from densekit.data.subset import unwrapped


class Sampling(Protocol):
    """Says how often an epoch draws each image."""

    def factors(self, dataset: Dataset) -> NDArray[np.float64]:
        """(N,) mean number of draws of each image per epoch; an epoch has their sum of draws."""


class RepeatFactors:
    """Repeats the images of rare classes (Gupta et al. 2019, "LVIS", section 4.1).

    A class that a share f of all images shows has the factor max(1, sqrt(threshold / f)), an image
    the largest factor of its classes. Images without objects have the factor 1. As in detectron2,
    a fraction is rounded at random in each epoch, so that it is the mean number of draws.

    Args:
        threshold: Share of the images below which a class is repeated, 0 to 1; the paper's is
            0.001, of 1,203 classes.

    Raises:
        ValueError: If the threshold is not a share.
    """

    def __init__(self, threshold: float = 0.001) -> None:
        if not 0 < threshold <= 1:
            raise ValueError(
                f"RepeatFactors.threshold: expected more than 0 and at most 1, got {threshold}"
            )
        self.threshold = float(threshold)

    def factors(self, dataset: Dataset) -> NDArray[np.float64]:
        """(N,) at least 1."""
        image, label = presence(dataset)
        images_of = np.bincount(label)
        shares = images_of[label] / len(dataset)
        factors = np.ones(len(dataset))
        np.maximum.at(factors, image, np.sqrt(self.threshold / shares))
        return factors


class ClassBalanced:
    """Draws every class equally often: a class at random, then one of the images that show it.

    This is class-aware sampling (Shen et al. 2016, "Relay backpropagation", section 4). An epoch
    has as many draws as there are images; an image of a frequent class is left out of some epochs,
    one without an object of all.
    """

    def factors(self, dataset: Dataset) -> NDArray[np.float64]:
        """(N,) N / K times the sum of 1 / (number of images) over the classes of an image.

        Raises:
            ValueError: If no image shows a class.
        """
        image, label = presence(dataset)
        if not len(image):
            raise ValueError("ClassBalanced: expected an image that shows a class, got none")
        images_of = np.bincount(label)
        each = len(dataset) / np.count_nonzero(images_of)
        factors = np.zeros(len(dataset))
        np.add.at(factors, image, each / images_of[label])
        return factors


class Shares:
    """Draws the parts of a `Concat` in given proportions, e.g. three real images per rendered one.

    An epoch has as many draws as all parts have images together. Within a part all images are
    equally likely: a part of fewer images than its share is repeated, one of more is left out in
    part, another one in each epoch.

    Args:
        shares: The proportion of each part by its name, e.g. `{city: 3, night: 1}`.

    Raises:
        ValueError: If a proportion is not positive.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        for name, share in shares.items():
            if not 0 < share < np.inf:
                raise ValueError(f"Shares.shares.{name}: expected more than 0, got {share}")
        self.shares = dict(shares)

    def factors(self, dataset: Dataset) -> NDArray[np.float64]:
        """(N,) N / n times the proportion of the part of each image, which has n images.

        Raises:
            ValueError: If the data are no `Concat`, or one of other parts.
        """
        whole, positions = unwrapped(dataset)
        if not isinstance(whole, Concat):
            kind = type(whole).__name__
            raise ValueError(f"Shares: expected training data of several parts, Concat, got {kind}")
        for name in self.shares:
            if name not in whole.names:
                raise ValueError(unknown("Shares.shares: part", name, whole.names))
        for name in whole.names:
            if name not in self.shares:
                raise ValueError(f"Shares.shares.{name}: expected the share of this part, got none")
        part = whole.part_of(positions)
        counts = np.bincount(part, minlength=len(whole.parts))
        if not counts.all():
            empty = whole.names[int(np.argmin(counts))]
            raise ValueError(f"Shares.shares.{empty}: expected images in this part, got none")
        shares = np.asarray([self.shares[name] for name in whole.names])
        factors: NDArray[np.float64] = (len(part) * shares / shares.sum() / counts)[part]
        return factors


def presence(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(P,) image and (P,) label of every class that an image shows, without the background.

    Crowds count, as in detectron2. Masks are read once for this, if the targets are masks.
    """
    indices = tracked(range(len(dataset)), "searching images for classes")
    labels = [np.unique(dataset.labels_in(index)) for index in indices]
    image = np.repeat(np.arange(len(labels)), [len(found) for found in labels])
    return image, np.concatenate(labels).astype(np.int64)
