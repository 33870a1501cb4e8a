"""What inferers share that use another inferer in the place of the network."""

from __future__ import annotations

from densekit.inference.inferer import Inferer
from densekit.inference.whole_image import WholeImage
from densekit.model import DenseModel
from densekit.types import Result


class WrappingInferer(Inferer):
    """Base of inferers around another one; a step on finished masks happens once, at the very end.

    Args:
        inferer: What predicts in the place of the network, the whole image by default.
    """

    def __init__(self, inferer: Inferer | None = None) -> None:
        self.inferer = inferer or WholeImage()
        self.whole_image = self.inferer.whole_image
        self.window = self.inferer.window

    def check(self, model: DenseModel) -> None:
        """What the wrapped inferer refuses; see `Inferer.check`."""
        self.inferer.check(model)

    def finish(
        self, model: DenseModel, results: list[dict[str, Result]]
    ) -> list[dict[str, Result]]:
        """What the wrapped inferer does with finished results."""
        return self.inferer.finish(model, results)
