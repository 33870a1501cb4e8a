"""Calibration images of `precision=int8` from training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from densekit.inference.calibration import Calibration
    from densekit.model import DenseModel
    from densekit.types import Batch


def of_sources(sources: Mapping[str, Any]) -> Calibration:
    """Takes training images of data sets, evenly spaced and not augmented."""

    def batches(model: DenseModel) -> Iterator[Batch]:
        from densekit.data.subset import Subset
        from densekit.inference.calibration import IMAGES, CalibrationError

        found = [source for source in sources.values() if source.train is not None]
        if not found:
            raise CalibrationError(
                "precision=int8: expected training images to measure scales on, got none in"
                f" data.{', data.'.join(sources)}"
            )
        for source in map(copy, found):
            spaced = evenly(range(len(source.train)), IMAGES // len(found))
            source.train, source.num_workers = Subset(source.train, spaced), 0
            yield from source.eval_loader("train")

    return batches


def evenly(items: Sequence[Any], most: int) -> list[Any]:
    """Returns at most this many items, evenly spaced."""
    count = min(len(items), max(most, 1))
    return [items[index * len(items) // count] for index in range(count)]
