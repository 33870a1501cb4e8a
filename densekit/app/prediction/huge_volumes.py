"""Predicts volumes that do not fit into memory slab by slab."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from densekit._files import PREFIX
from densekit.app.prediction.huge import HUGE

if TYPE_CHECKING:
    from densekit.app.results.writer import Writer
    from densekit.inference import Predictor

LARGE = 32 * HUGE
"""Bytes of a prediction in memory above which a volume is streamed: 2 GiB."""

logger = logging.getLogger(__name__)


class Streamer:
    """Predicts the huge volumes among the inputs of a command.

    Args:
        predictor: Of the model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def takes(self, case: Sequence[Path]) -> bool:
        """Whether a volume is huge and can be streamed.

        Raises:
            ValueError: It is huge, must be in memory as a whole, and the memory is too small; names
                it.
        """
        if self.predictor.frames.dims != 3 or any(path.is_dir() for path in case):
            return False
        from psutil import virtual_memory

        from densekit.data.medical.volumes import read_channels_grid
        from densekit.inference.volume_stream import bytes_in_memory, why_whole

        try:
            grid = read_channels_grid(case)
            needed = bytes_in_memory(self.predictor, grid)
            reason = why_whole(self.predictor, case)
        except ValueError:  # reading it whole reports the reason
            return False
        if needed <= LARGE:
            return False
        if reason is not None and needed > (available := virtual_memory().available):
            raise ValueError(
                f"{case[0]}: expected a volume that fits into memory or can be streamed, got"
                f" {grid.shape} voxels, about {needed >> 20} MiB where {available >> 20} are free,"
                f" and {reason}, which needs the whole volume"
            )
        return reason is None

    def run(self, case: Sequence[Path], image_id: int, name: Path, writer: Writer) -> None:
        """Writes the masks of a volume; files on the way are in a hidden folder of the output.

        Raises:
            ValueError: The volume is damaged; names it.
        """
        from densekit.inference import predict_volume

        with TemporaryDirectory(prefix=PREFIX, dir=writer.output) as folder:
            volume, results = predict_volume(self.predictor, case, Path(folder))
            writer.add(volume, image_id, case[0], name, results)
        logger.info("%s: predicted slab by slab", case[0])
