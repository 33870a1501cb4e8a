"""From which score a box, a pixel or a label counts: measured, or chosen by the user.

Shape letters: K classes, N boxes or labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from densekit.heads.base import Head
from densekit.inference.restore import HALF
from densekit.model import DenseModel
from densekit.types import Decision, Result, chosen_objects

BEST = "best"
Choice = float | Literal["best"]
"""A score, or the best one that a validation has measured."""


@dataclass(frozen=True)
class Threshold:
    """From which score the classes of a head count.

    Attributes:
        values: (K,) one per class.
        origin: Where it comes from, in words.
    """

    values: tuple[float, ...]
    origin: str

    def __str__(self) -> str:
        """The value, or the least and the largest, and the origin."""
        ends = dict.fromkeys(f"{end:.2f}" for end in (min(self.values), max(self.values)))
        return f"{' to '.join(ends)} ({self.origin})"


def check_choice(choice: Choice | None) -> Choice | None:
    """Checks a `threshold` that a user gives, and returns it.

    Raises:
        ValueError: It is neither a number from 0 to 1 nor "best".
    """
    is_number = isinstance(choice, int | float) and 0 <= choice <= 1
    if choice is None or choice == BEST or is_number:
        return choice
    raise ValueError(f"threshold: expected a number from 0 to 1 or {BEST}, got {choice!r}")


def best_threshold(head: Mapping[str, Any]) -> Threshold | None:
    """The threshold that the last validation has measured, None if it has measured none.

    Classes with too few objects have none of their own: they take the overall one.

    Args:
        head: `info["heads"][HEAD]` of a model; `best_thresholds` is what metrics store, see
            `densekit.metrics.thresholds.measured_thresholds`.

    Raises:
        ValueError: The entry is not of this kind.
    """
    found = head.get("best_thresholds")
    if not found:
        return None
    try:
        overall, classes = float(found["overall"]), dict(found.get("classes", {}))
        values = tuple(float(classes.get(name, overall)) for name in head["names"])
        if not all(0 <= value <= 1 for value in (overall, *values)):
            raise ValueError(f"{overall:g}")
        return Threshold(values, f"measured: {found['by']}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "info: best_thresholds: expected overall and classes from 0 to 1, got"
            f" {str(found)[:200]}"
        ) from error


def chosen_thresholds(model: DenseModel, choice: Choice | None) -> dict[str, Threshold]:
    """The threshold of each head whose predictions have scores to decide by.

    Those are boxes, the labels of a multi-label head, and masks that are binary or multi-label.

    Args:
        model: Its heads and its `info` are read.
        choice: For all heads. None takes what `Head.threshold` says, else the best one, else 0.5.

    Raises:
        ValueError: A stored entry is not of its kind.
    """
    found = {}
    for name, head in model.heads.items():
        known = model.info.get("heads", {}).get(name, {})
        classes = len(known.get("names", ()))
        if classes and decides(head, classes):
            found[name] = _chosen(known, head.threshold, classes, choice)
    return found


def with_thresholds(info: Mapping[str, Any], thresholds: Mapping[str, Threshold]) -> dict[str, Any]:
    """A model's `info` in which heads also say their `threshold`, one number per class."""
    heads = {name: dict(head) for name, head in info.get("heads", {}).items()}
    for name, threshold in thresholds.items():
        heads[name]["threshold"] = list(threshold.values)
    return {**info, "heads": heads}


def decides(head: Head, num_classes: int) -> bool:
    """Whether a threshold decides what a head predicts."""
    independent = bool(getattr(head, "multilabel", False))
    if "mask" in head.target_keys:
        return independent or num_classes == 1
    return "boxes" in head.target_keys or independent


def confident(result: Result, threshold: Threshold | Decision) -> Result:
    """Keeps the boxes of a result that count.

    Args:
        result: Of one image and head; `labels` (N,) and `scores` (N,) are read. One without boxes
            is returned as it is: labels and pixels are decided already.
        threshold: Of the head.
    """
    if "boxes" not in result:
        return result
    values = threshold.values if isinstance(threshold, Threshold) else threshold
    least = np.asarray(values, dtype=np.float64)
    least = least[result["labels"]] if least.ndim and least.size > 1 else least
    kept: NDArray[np.bool_] = np.asarray(result["scores"] >= least)
    return chosen_objects(result, kept)


def _chosen(
    known: Mapping[str, Any], own: Decision | None, classes: int, choice: Choice | None
) -> Threshold:
    if isinstance(choice, int | float):
        return Threshold((float(choice),) * classes, "as asked")
    best = best_threshold(known)
    if best is not None and (choice == BEST or own is None):
        return best
    if own is None:
        return Threshold((HALF,) * classes, "none was measured")
    values = np.broadcast_to(np.asarray(own, dtype=np.float64), classes)
    return Threshold(tuple(values.tolist()), "of the head's configuration")
