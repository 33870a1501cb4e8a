"""Predicts images that do not fit into memory tile by tile."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from densekit.app.results.writer import Writer
    from densekit.inference import Predictor

HUGE = 64 << 20
"""Pixels above which an image is predicted in tiles: its float logits would need gigabytes."""

logger = logging.getLogger(__name__)


class Tiler:
    """Predicts the huge images among the inputs of a command.

    Args:
        predictor: Of the model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._heads: list[str] | None = None
        self._margin: int | None = None

    def takes(self, file: Path) -> bool:
        """Whether a file is huge, can be read in windows, and the heads return logits."""
        from densekit.inference.tile_source import SUFFIXES, TileSource

        model = self.predictor.model
        if self.predictor.frames.dims != 2 or model.info.get("resize"):
            return False
        if file.suffix.lower() not in SUFFIXES:
            return False
        try:
            height, width, _ = TileSource(file).shape
        except ValueError:  # reading it whole reports the reason
            return False
        return height * width > HUGE and bool(self._tileable())

    def run(self, file: Path, image_id: int, name: Path, writer: Writer) -> None:
        """Writes the mask of each head as a tiled TIFF.

        Raises:
            ValueError: The file cannot be predicted in tiles; names it.
        """
        from densekit.app.results.masks import MaskClasses
        from densekit.inference import WholeImage, predict_tiles

        predictor = self.predictor
        for head in self._tileable():
            target = writer.mask_file(head, name)
            target = target.with_name(target.name + ".tif")
            target.parent.mkdir(parents=True, exist_ok=True)
            tile, margin = predict_tiles(
                predictor.model,
                file,
                target,
                head,
                margin=self._margin,
                values=MaskClasses(writer.heads[head]).table(255),
            )
            writer.add_tiled(head, image_id, file, name, target)
            logger.info("%s: predicted in tiles of %d with a margin of %d", file, tile, margin)
        if not isinstance(predictor.inferer, WholeImage):
            inferer = type(predictor.inferer).__name__
            logger.warning("%s: tiles are predicted without %s", file, inferer)

    def _tileable(self) -> list[str]:
        """All heads if every one returns logits, else none; measures the receptive field once."""
        from densekit.inference.receptive import receptive_margin

        if self._heads is None:
            try:
                self._margin = receptive_margin(self.predictor.model)
                self._heads = list(self.predictor.model.heads)
            except ValueError:  # boxes cannot be joined from tiles
                self._heads = []
        return self._heads
