"""Soft Dice loss.

B images, K classes, S the D sizes.
"""

from __future__ import annotations

from torch import Tensor, nn

from densekit.losses.regions import SMOOTH, mean_over, measure


class Dice(nn.Module):
    """One minus the soft Dice score, averaged over samples and classes.

    Milletari et al. 2016, V-Net, section 3, with the conventions of nnU-Net and MONAI: 1e-5 is
    added to numerator and denominator, and a class absent from a sample counts like any other: its
    term is near 1 as soon as anything is predicted for it, and 0 if nothing is. If small classes
    are absent from most crops, `batch=True` is more stable.

    Samples whose pixels are all ignored are left out of the mean, which is over the samples of all
    processes; pooled sums are over all processes too, with the exact gradient.

    Args:
        batch: Whether to sum intersections and sizes over the batch before dividing.
        squared: Whether to square the probabilities in the denominator, as V-Net does.
        include_background: Whether class 0 of a multi-class mask has a term.
    """

    def __init__(
        self, batch: bool = False, squared: bool = False, include_background: bool = True
    ) -> None:
        super().__init__()
        self.batch = batch
        self.squared = squared
        self.include_background = include_background

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss, in 0..1.

        Args:
            logits: (B, K, *S).
            mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.
        """
        sums = measure(
            logits,
            mask,
            batch=self.batch,
            include_background=self.include_background,
            squared=self.squared,
        )
        score = (2 * sums.hit + SMOOTH) / (sums.pred + sums.truth + SMOOTH)  # (R, K)
        return mean_over(1 - score, sums.pixels)
