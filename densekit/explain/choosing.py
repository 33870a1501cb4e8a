"""Which targets of an image are explained.

The predictions of a head decide what can be explained, by their keys; a head of any other kind
offers its own targets, see `ExplainableHead`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from densekit._names import unknown
from densekit.explain.boxes import box_targets
from densekit.explain.categories import class_targets
from densekit.explain.regions import region_targets
from densekit.explain.similarity import KEY as EMBEDDING
from densekit.explain.similarity import SimilarityTarget
from densekit.explain.target import ExplainableHead, Target
from densekit.inference.restore import HALF
from densekit.model import DenseModel
from densekit.types import Predictions

AUTO = "auto"
"""The best target of the prediction."""
PER_PIXEL = ("logits", "multilabel_logits")
PER_IMAGE = ("probabilities", "multilabel_probabilities")


class NothingFoundError(ValueError):
    """The prediction of an image does not contain the target."""


def targets_of(
    model: DenseModel,
    name: str,
    predictions: Predictions,
    sides: Sequence[int],
    pair: Predictions | None = None,
) -> list[Target]:
    """Returns what can be explained in one image, the best first.

    Args:
        model: With the head.
        name: Name of the head.
        predictions: Of the head and of one image, B = 1.
        sides: The sides of the image without padding.
        pair: Predictions of the image to compare with.

    Raises:
        ValueError: The head predicts nothing that is known and offers no targets, or a pair is
            missing or has no use.
    """
    head, info = model.heads[name], described(model, name)
    if isinstance(head, ExplainableHead):
        return list(head.explain_targets(predictions, info))
    if EMBEDDING in predictions:
        if pair is None:
            raise ValueError(
                f"pair: expected an image to compare with, as heads.{name} predicts embeddings, got"
                " none"
            )
        return [SimilarityTarget(pair[EMBEDDING][0])]
    if pair is not None:
        raise ValueError(
            f"pair: expected a head with embeddings, got heads.{name}, which predicts"
            f" {', '.join(sorted(predictions))}"
        )
    if "boxes" in predictions:
        return box_targets(predictions, info)
    for key in PER_PIXEL:
        if key in predictions:
            threshold = model.thresholds.get(name, HALF)
            return region_targets(key, predictions, info, sides, threshold)
    for key in PER_IMAGE:
        if key in predictions:
            return class_targets(key, predictions, info)
    raise ValueError(
        f"heads.{name}: expected predictions with boxes, {', '.join(PER_PIXEL + PER_IMAGE)} or"
        f" {EMBEDDING}, or a method explain_targets, got {', '.join(sorted(predictions))}"
    )


def described(model: DenseModel, name: str) -> Mapping[str, Any]:
    """Returns the data's description of a head's targets, empty if the model has none."""
    found: Mapping[str, Any] = model.info.get("heads", {}).get(name, {})
    return found


def check_wanted(wanted: str, info: Mapping[str, Any]) -> None:
    """Refuses a class that the head does not have, before any work; see `choose`.

    Raises:
        ValueError: It is neither a class nor a number.
    """
    names = [str(name) for name in info.get("names") or ()]
    if names and wanted not in (AUTO, *names) and not _is_place(wanted):
        raise ValueError(unknown("target", wanted, [AUTO, *names]))


def choose(wanted: str, found: Sequence[Target]) -> Target:
    """Returns the target that a user asks for.

    Args:
        wanted: "auto" for the best one; a class name for the best of this class; or K for the K-th
            best, from 1.
        found: What can be explained, the best first.

    Raises:
        NothingFoundError: There is none.
    """
    if not found:
        raise NothingFoundError("target: expected a prediction with an object or a class, got none")
    if wanted == AUTO:
        return found[0]
    for target in found:
        if target.name == wanted:
            return target
    names = list(dict.fromkeys(target.name for target in found))
    if not _is_place(wanted):
        raise NothingFoundError(f"target: {wanted} is not predicted; expected {', '.join(names)}")
    if int(wanted) > len(found):
        raise NothingFoundError(f"target: expected 1 to {len(found)}, got {wanted}")
    return found[int(wanted) - 1]


def _is_place(wanted: str) -> bool:
    return wanted.isdecimal() and int(wanted) > 0
