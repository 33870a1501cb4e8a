"""Constant margins: ArcFace, CosFace, SphereFace and their combination."""

from __future__ import annotations

from torch import Tensor

from densekit.losses.cosine import widened_cosine
from densekit.losses.margin import Margin


class CombinedMargin(Margin):
    """cos(m1 * theta + m2) - m3 for the target class.

    Deng et al. 2019, "ArcFace", equation 4. Where the widened angle exceeds pi the cosine keeps
    falling (`losses.cosine.widened_cosine`); in arcface_torch it rises again.

    Args:
        m1: Factor of the angle, at least 1.
        m2: Added to the angle, in radians, at least 0.
        m3: Subtracted from the cosine, at least 0.
        scale: Factor of the cosines.

    Raises:
        ValueError: A margin is out of range.
    """

    def __init__(
        self, m1: float = 1.0, m2: float = 0.3, m3: float = 0.2, scale: float = 64.0
    ) -> None:
        super().__init__(scale)
        if m1 < 1 or m2 < 0 or m3 < 0:
            raise ValueError(
                f"{type(self).__name__}: expected m1 of at least 1, m2 and m3 of at least 0, got"
                f" {m1}, {m2} and {m3}"
            )
        self.m1, self.m2, self.m3 = m1, m2, m3

    def target(self, cosine: Tensor, norm: Tensor) -> Tensor:
        """Returns (G,) cosines with the three margins; see `Margin.target`."""
        if self.m1 != 1 or self.m2 != 0:
            cosine = widened_cosine(cosine, self.m1, self.m2)
        return cosine - self.m3


class ArcFace(CombinedMargin):
    """cos(theta + margin); Deng et al. 2019, "ArcFace", equation 3.

    Args:
        margin: Added to the angle, in radians.
        scale: Factor of the cosines.
    """

    def __init__(self, margin: float = 0.5, scale: float = 64.0) -> None:
        super().__init__(1.0, margin, 0.0, scale)


class CosFace(CombinedMargin):
    """cos(theta) - margin; Wang et al. 2018, "CosFace", equation 4.

    Args:
        margin: Subtracted from the cosine.
        scale: Factor of the cosines.
    """

    def __init__(self, margin: float = 0.35, scale: float = 64.0) -> None:
        super().__init__(1.0, 0.0, margin, scale)


class SphereFace(CombinedMargin):
    """cos(margin * theta), with embeddings of constant length.

    Liu et al. 2017, "SphereFace", equation 6, with the normalised embeddings and the angle factor
    of Deng et al. 2019, table 2.

    Args:
        margin: Factor of the angle.
        scale: Factor of the cosines.
    """

    def __init__(self, margin: float = 1.35, scale: float = 64.0) -> None:
        super().__init__(margin, 0.0, 0.0, scale)
