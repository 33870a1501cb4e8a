"""The inferer protocol of the training loop, which turns evaluation batches into results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from densekit.types import Batch, Features, Result

if TYPE_CHECKING:
    from densekit.model import DenseModel


class Inferer(Protocol):
    """Turns a batch into results; `densekit.inference` has implementations.

    Attributes:
        whole_image: Whether the network sees each image as a whole. If not, validation computes no
            loss, because whole images might not fit into memory.
    """

    whole_image: bool

    def __call__(
        self, model: DenseModel, batch: Batch, features: Features | None
    ) -> list[dict[str, Result]]:
        """Returns one dict per image, head name to result, in the image's original frame.

        Args:
            model: In eval mode.
            batch: Resized by `model.resized`.
            features: Of this batch, if already computed for the loss.
        """


def sees_images(inferer: Inferer, model: DenseModel, spatial_dims: int) -> bool:
    """Whether the network sees whole images: no windows, and no slices of volumes.

    Args:
        inferer: Of validation or test.
        model: The network with its heads.
        spatial_dims: Of the images.
    """
    return inferer.whole_image and spatial_dims == model.spatial_dims
