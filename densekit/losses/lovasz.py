"""Lovász loss: a convex surrogate of the Jaccard index.

B images, K classes, S the D sizes, P pixels of an image; R regions of N pixels: the B images of P
pixels, or one region of B * P.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densekit.losses.targets import (
    counted,
    exclusive,
    flatten,
    full_precision,
    members,
    probabilities,
    recomputed,
)
from densekit.ops.dist import global_count


class Lovasz(nn.Module):
    """The Lovász extension of one minus the Jaccard index, averaged over classes.

    Berman, Rannen Triki and Blaschko 2018, "The Lovász-Softmax loss": Lovász-Softmax (section 3.2)
    over the classes present, or the Lovász hinge (section 2.2) for K = 1 and for each label of a
    multi-label mask. It depends on the order of all pixels of a region, so it cannot be summed over
    processes: a region lies within one process, and the loss is the mean over the regions of all
    processes that have a counted pixel. It keeps one float32 per logit for backward, the slopes,
    which is cheaper than sorting twice.

    Args:
        per_image: Whether every image is a region of its own; otherwise the batch is one region,
            which is closer to the Jaccard index of a whole data set.
    """

    def __init__(self, per_image: bool = False) -> None:
        super().__init__()
        self.per_image = per_image

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Returns the scalar loss.

        Args:
            logits: (B, K, *S).
            mask: (B, *S), or multi-label (B, K, *S); 255 is ignored.
        """
        logits, mask = flatten(logits, mask)
        with torch.no_grad():
            weights, present = self._weights(logits, mask)

        def weighted(logits: Tensor, mask: Tensor) -> Tensor:
            return (pixel_errors(logits, mask).relu() * weights).sum(-1)  # (B, K)

        loss = recomputed(weighted, logits, mask)
        if not self.per_image:
            loss = loss.sum(0, keepdim=True)  # (R, K)
        mean = (loss * present).sum(1) / present.sum(1).clamp(min=1)  # (R,)
        return mean.sum() / global_count(present.any(1).sum())

    def _weights(self, logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Slopes (B, K, P) of the loss in every error, and which classes have a term (R, K)."""
        errors, valid = pixel_errors(logits, mask), counted(mask)
        belongs = members(logits, mask)
        term = belongs if exclusive(logits, mask) else valid
        valid = valid.expand_as(errors)
        regions = (len(errors), -1) if self.per_image else (1, -1)
        present = []
        for k in range(errors.shape[1]):  # one class at a time: sorting takes several copies
            rows = (part[:, k].reshape(regions) for part in (errors, belongs, valid))
            present.append(term[:, k].reshape(regions).any(1))
            errors[:, k] = jaccard_slopes(*rows).view(len(errors), -1)
        return errors, torch.stack(present, 1)


def pixel_errors(logits: Tensor, mask: Tensor) -> Tensor:
    """Returns errors (B, K, P): distance to the right probability, or to a margin of 1 (hinge)."""
    if exclusive(logits, mask):
        prob = probabilities(logits, mask)
        return torch.where(members(logits, mask), 1 - prob, prob)
    logits = full_precision(logits)
    return 1 - torch.where(mask == 1, logits, -logits)


def jaccard_slopes(errors: Tensor, belongs: Tensor, counted: Tensor) -> Tensor:
    """Returns the increase of the Jaccard loss as pixels become wrong one by one, worst first.

    Algorithm 1 of the paper, whose differences of neighbouring values cancel in large images
    (1 - J is 1 to float32 precision for most pixels); here they are computed in closed form.

    Args:
        errors: (R, N).
        belongs: (R, N) bool, pixels of the class.
        counted: (R, N) bool; the others get 0.

    Returns:
        (R, N) in the dtype of the errors.
    """
    order = errors.masked_fill(~counted, -torch.inf).argsort(1, descending=True)
    inside = belongs.gather(1, order)
    size = inside.sum(1, keepdim=True)  # (R, 1)
    gone = inside.cumsum(1)
    both = size - gone  # intersection after each pixel
    either = size + torch.arange(1, inside.shape[1] + 1, device=size.device) - gone  # union
    dtype = errors.dtype
    on = 1 / either.to(dtype)  # the intersection lost a pixel
    off = both.to(dtype) / (either * (either - 1)).clamp(min=1).to(dtype)  # the union gained one
    slopes = torch.where(inside, on, off)
    # For a class without pixels the first false positive alone costs everything.
    slopes = torch.where((size == 0) & (either == 1), 1.0, slopes)
    return torch.zeros_like(errors).scatter_(1, order, slopes) * counted
