"""Stems: the layers of a ResNet before its stages."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stem:
    """One convolution, optionally followed by a max-pool of stride 2."""

    kernel_size: int
    stride: int
    pool: bool

    @property
    def reduction(self) -> int:
        """Stride of the stages' input."""
        return self.stride * (2 if self.pool else 1)


STEMS = {
    "imagenet": Stem(kernel_size=7, stride=2, pool=True),  # stages at strides 4, 8, 16, 32
    "half": Stem(kernel_size=3, stride=2, pool=False),  # 2, 4, 8, 16
    "full": Stem(kernel_size=3, stride=1, pool=False),  # 1, 2, 4, 8: small images and volumes
}
