"""Clean-up of predicted masks by connected components.

Shape letters: K classes, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import foreground, unknown
from densekit.inference.inferer import Inferer
from densekit.inference.wrapping import WrappingInferer
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions, Result


class CleanUp(WrappingInferer):
    """Removes components of finished masks, in the image's original frame.

    Pixels are connected if they share a side or a corner. Removed pixels become background (in
    multi-label masks only the class in question is removed), so multi-class models without a
    background class are refused.

    Args:
        inferer: The inferer whose masks are cleaned, `WholeImage` by default.
        largest: Names of the classes of which only the largest component is kept.
        min_size: Components of any class with fewer pixels are removed.
    """

    def __init__(
        self, inferer: Inferer | None = None, largest: Sequence[str] = (), min_size: int = 0
    ) -> None:
        if isinstance(largest, str):
            raise TypeError(f"CleanUp.largest: expected a list of class names, got {largest!r}")
        super().__init__(inferer)
        self.largest = list(largest)
        self.min_size = min_size

    def predict(
        self, model: DenseModel, batch: Batch, features: Features | None = None
    ) -> dict[str, Predictions]:
        """Returns the predictions of the wrapped inferer."""
        return self.inferer.predict(model, batch, features)

    def check(self, model: DenseModel) -> None:
        """Refuses class names that no mask head has, and models without a background class.

        Raises:
            ValueError: A name is unknown, with the nearest one; or there is no background class.
        """
        super().check(model)
        self._known(model, [n for n, head in model.heads.items() if "mask" in head.target_keys])

    def finish(
        self, model: DenseModel, results: list[dict[str, Result]]
    ) -> list[dict[str, Result]]:
        """Returns the results with cleaned masks."""
        results = self.inferer.finish(model, results)
        info = model.info.get("heads", {})
        masked = {head for result in results for head, part in result.items() if "mask" in part}
        classes = self._known(model, masked)
        for result in results:
            for head in masked & result.keys():
                multilabel = bool(info[head].get("multilabel"))
                mask = self._cleaned(result[head]["mask"], classes[head], multilabel)
                result[head] = {**result[head], "mask": mask}
        return results

    def _known(self, model: DenseModel, heads: Iterable[str]) -> dict[str, dict[int, str]]:
        """Mask value to class name for each head; checks that every name in `largest` is known."""
        info = model.info.get("heads", {})
        classes = {head: _classes(info.get(head), f"heads.{head}") for head in heads}
        names = {name for of_head in classes.values() for name in of_head.values()}
        for name in self.largest if classes else ():
            if name not in names:
                raise ValueError(unknown("CleanUp.largest", name, sorted(names)))
        return classes

    def _cleaned(
        self, mask: NDArray[Any], classes: Mapping[int, str], multilabel: bool
    ) -> NDArray[Any]:
        if multilabel:  # every channel is a binary mask
            return np.stack(
                [self._cleaned(mask[row], {1: name}, False) for row, name in classes.items()]
            )
        alone = [value for value, name in classes.items() if name in self.largest]
        return drop_small(keep_largest(mask, alone), self.min_size, classes)


def keep_largest(mask: NDArray[Any], classes: Iterable[int]) -> NDArray[Any]:
    """Keeps only the largest component of each class, the first of equal ones; the rest becomes 0.

    Args:
        mask: (*S) classes.
        classes: Mask values to process, each independently of the others.
    """
    out = mask.copy()
    for value in classes:
        labels, sizes = components(mask == value)
        if len(sizes) > 1:
            out[(labels > 0) & (labels != 1 + int(np.argmax(sizes)))] = 0
    return out


def drop_small(mask: NDArray[Any], min_size: int, classes: Iterable[int]) -> NDArray[Any]:
    """Sets components of fewer than `min_size` pixels to 0.

    Args:
        mask: (*S) classes.
        min_size: Smallest number of pixels of a component that is kept.
        classes: Mask values to process, each independently of the others.
    """
    out = mask.copy()
    for value in classes if min_size > 1 else ():
        labels, sizes = components(mask == value)
        small = np.concatenate(([False], sizes < min_size))  # by label; 0 is the outside
        out[small[labels]] = 0
    return out


def components(area: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels the connected components of an area; pixels that share a corner are connected.

    Args:
        area: (*S).

    Returns:
        Labels (*S), 0 outside and 1..N inside, and the N sizes in pixels.
    """
    from scipy import ndimage

    labels, count = ndimage.label(area, ndimage.generate_binary_structure(area.ndim, area.ndim))
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]


def _classes(head: Mapping[str, Any] | None, where: str) -> dict[int, str]:
    """Mask value to name of the classes that can be removed."""
    if not head or not head.get("names"):
        raise ValueError(
            f"inferer: CleanUp expected class names in model.info for {where}, got none"
        )
    of_head = foreground(head)
    if 0 in of_head and not head.get("multilabel"):
        raise ValueError(
            "inferer: CleanUp turns removed pixels into background: expected a model with a "
            f"background class, a binary or a multi-label one, got {where} with {of_head[0]!r} as "
            "its first class"
        )
    return of_head
