"""Which labels of images are probably wrong: confident learning.

`densekit doctor checkpoint=...` judges each image of any split by itself; here all images of an
evaluation say how sure the network is of a class where it is the label.

Shape letters: N images, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from densekit.metrics.means import Values, ratio

MOST = 100
"""Most suspects of a metric."""


def confident_errors(
    label: NDArray[np.int64],
    self_confidence: Values,
    predicted: NDArray[np.int64],
    confidence: Values,
    num_classes: int,
) -> NDArray[np.int64]:
    """Places of the images whose label a confident prediction contradicts, most suspicious first.

    A prediction is confident if its probability is at least the mean probability of its class over
    the images that are labelled so (Northcutt et al. 2021, "Confident learning", equation 2). The
    less probable the label, the more suspicious it is (self-confidence, section 4 there).

    Args:
        label: (N,) 0..K-1.
        self_confidence: (N,) probability of the label.
        predicted: (N,) most probable class.
        confidence: (N,) its probability.
        num_classes: K.
    """
    sums = np.bincount(label, self_confidence, num_classes)
    usual = ratio(sums, np.bincount(label, minlength=num_classes))  # (K,), NaN without a label
    wrong = np.flatnonzero((predicted != label) & (confidence >= usual[predicted]))
    return wrong[np.argsort(self_confidence[wrong], kind="stable")]
