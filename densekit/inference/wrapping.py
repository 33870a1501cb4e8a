"""Base class of inferers that wrap another inferer."""

from __future__ import annotations

from densekit.inference.inferer import Inferer
from densekit.inference.whole_image import WholeImage
from densekit.model import DenseModel
from densekit.types import Result


class WrappingInferer(Inferer):
    """Base of inferers around another one; `finish` runs once, on the final results.

    Args:
        inferer: Predicts in place of the network, `WholeImage` by default.
    """

    def __init__(self, inferer: Inferer | None = None) -> None:
        self.inferer = inferer or WholeImage()
        self.whole_image = self.inferer.whole_image
        self.window = self.inferer.window

    def check(self, model: DenseModel) -> None:
        """Refuses what the wrapped inferer refuses; see `Inferer.check`."""
        self.inferer.check(model)

    def finish(
        self, model: DenseModel, results: list[dict[str, Result]]
    ) -> list[dict[str, Result]]:
        """Post-processes results as the wrapped inferer does."""
        return self.inferer.finish(model, results)
