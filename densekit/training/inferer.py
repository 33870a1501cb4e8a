"""The inferer as the training loop knows it: evaluation batches in, results out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from densekit.types import Batch, Features, Result

if TYPE_CHECKING:
    from densekit.model import DenseModel


class Inferer(Protocol):
    """Turns a batch into results; those of `densekit.inference` do.

    Attributes:
        whole_image: Whether the network sees every image at once. If not, validation computes no
            loss: the network might not fit a whole image into memory.
    """

    whole_image: bool

    def __call__(
        self, model: DenseModel, batch: Batch, features: Features | None
    ) -> list[dict[str, Result]]:
        """One dict by head per image, in the image's original frame.

        Args:
            model: In eval mode.
            batch: Through `model.resized`.
            features: Of this batch, where they were computed for the loss.
        """


def sees_images(inferer: Inferer, model: DenseModel, spatial_dims: int) -> bool:
    """Whether the network sees images whole: neither by windows nor, of volumes, by slices.

    Args:
        inferer: Of validation or test.
        model: The network with its heads.
        spatial_dims: Those of the images.
    """
    return inferer.whole_image and spatial_dims == model.spatial_dims
