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
from densekit.heads.base import Head
from densekit.types import Predictions

AUTO = "auto"
"""The best target of the prediction."""
PER_PIXEL = ("logits", "multilabel_logits")
PER_IMAGE = ("probabilities", "multilabel_probabilities")


class NothingFoundError(ValueError):
    """The prediction of an image does not contain the target."""


def targets_of(
    name: str,
    head: Head,
    predictions: Predictions,
    info: Mapping[str, Any],
    sides: Sequence[int],
    pair: Predictions | None = None,
) -> list[Target]:
    """Returns what can be explained in one image, the best first.

    Args:
        name: Name of the head, for messages.
        head: The head.
        predictions: Of one image, B = 1.
        info: The data's description of the head's targets.
        sides: The sides of the image without padding.
        pair: Of the image to compare with.

    Raises:
        ValueError: The head predicts nothing that is known and offers no targets, or a pair is
            missing or has no use.
    """
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
            return region_targets(key, predictions, info, sides)
    for key in PER_IMAGE:
        if key in predictions:
            return class_targets(key, predictions, info)
    raise ValueError(
        f"heads.{name}: expected predictions with boxes, {', '.join(PER_PIXEL + PER_IMAGE)} or"
        f" {EMBEDDING}, or a method explain_targets, got {', '.join(sorted(predictions))}"
    )


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
