"""MagFace: trains the length of an embedding to indicate image quality."""

from __future__ import annotations

from torch import Tensor

from densekit.losses.cosine import widened_cosine
from densekit.losses.margin import Margin


class MagFace(Margin):
    """cos(theta + m(a)) for the target class, and a term g(a) that lengthens embeddings.

    Meng et al. 2021, "MagFace", section 3.2: a is the length of the embedding, clipped to its
    bounds; m(a) rises linearly between its bounds; g(a) = 1 / a + a / upper^2.

    Args:
        lengths: Lower and upper bound of a.
        margins: m at these bounds, in radians.
        weight: Weight of g, lambda_g in the paper.
        scale: Factor of the cosines.

    Raises:
        ValueError: The bounds are not ascending.
    """

    def __init__(
        self,
        lengths: tuple[float, float] = (10.0, 110.0),
        margins: tuple[float, float] = (0.45, 0.8),
        weight: float = 35.0,
        scale: float = 64.0,
    ) -> None:
        super().__init__(scale)
        if not 0 < lengths[0] < lengths[1] or not 0 <= margins[0] <= margins[1]:
            raise ValueError(
                f"MagFace: expected ascending bounds as lengths and margins, got {lengths} and"
                f" {margins}"
            )
        self.lengths, self.margins, self.weight = tuple(lengths), tuple(margins), weight

    def target(self, cosine: Tensor, norm: Tensor) -> Tensor:
        """Returns (G,); see `Margin.target`."""
        (short, long), (least, most) = self.lengths, self.margins
        a = norm.clamp(short, long)
        return widened_cosine(cosine, 1.0, least + (most - least) / (long - short) * (a - short))

    def penalty(self, norm: Tensor) -> Tensor:
        """Returns weight * g(a), (G,)."""
        a = norm.clamp(*self.lengths)
        return self.weight * (1 / a + a / self.lengths[1] ** 2)
