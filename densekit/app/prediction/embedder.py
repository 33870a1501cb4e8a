"""Embeddings of files, and the threshold to compare them with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._names import unknown
from densekit.app.config.overrides import trusted_packages, with_trust
from densekit.app.errors import UsageError
from densekit.app.options.shared import (
    CALIBRATION,
    CHECKPOINT,
    DEVICE,
    ENGINE,
    PRECISION,
    TRUST,
    checkpoint_file,
    device_name,
)
from densekit.app.options.table import Option, number, text
from densekit.app.terminal import quoted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.inference import Predictor

logger = logging.getLogger(__name__)

OPTIONS = (
    CHECKPOINT,
    Option(
        "far",
        number(at_least=0),
        None,
        "false accept rate of the stored threshold to use (default: the lowest one stored)",
    ),
    Option(
        "threshold",
        number(),
        None,
        'similarity from which images count as "same", in place of a stored threshold',
    ),
    Option("head", text("NAME"), None, "the head to use, if several produce embeddings"),
    DEVICE,
    ENGINE,
    PRECISION,
    CALIBRATION,
    TRUST,
)


@dataclass(frozen=True)
class Threshold:
    """Similarity from which two images are taken to show the same identity.

    Attributes:
        value: Cosine similarity, -1 to 1.
        false_accept_rate: Measured share of accepted impostors, None if set by the user.
    """

    value: float
    false_accept_rate: float | None

    def __str__(self) -> str:
        if self.false_accept_rate is None:
            return f"{self.value:.4f} (given; its false accept rate is not known)"
        rate = f"{self.false_accept_rate:g}"
        return f"{self.value:.4f} (false accept rate {rate} on the pairs it was measured with)"


class Embedder:
    """Computes the embeddings of image files by one head.

    Args:
        predictor: Of the model.
        head: Name of a head that returns embeddings.
    """

    def __init__(self, predictor: Predictor, head: str) -> None:
        self.predictor, self.head = predictor, head
        self.info: dict[str, Any] = predictor.model.info["heads"][head]

    def __call__(self, files: Sequence[Path]) -> NDArray[Any]:
        """Returns (N, E) float32 embeddings of length 1.

        Raises:
            ValueError: A file cannot be read; names it.
        """
        import numpy as np

        found = [result[self.head]["embedding"] for result in self.predictor.stream(files)]
        return np.stack(found)

    def readable(self, files: Sequence[Path]) -> tuple[list[Path], NDArray[Any], list[str]]:
        """Returns the readable files, their embeddings (N, E), and a message per unreadable file.

        Raises:
            UsageError: None of them can be read.
        """
        import numpy as np

        found, vectors, broken = [], [], []
        for file in files:
            try:
                vectors.append(self([file])[0])
            except (ValueError, TypeError) as error:
                broken.append(str(error) if str(file) in str(error) else f"{file}: {error}")
                continue
            found.append(file)
        if not found:
            raise UsageError(f"{files[0].parent}: expected readable images, got none: {broken[0]}")
        return found, np.stack(vectors), broken

    def threshold(self, given: float | None = None, far: float | None = None) -> Threshold | None:
        """Returns the given threshold, else the stored one, else None.

        Args:
            given: Set by the user.
            far: False accept rate of the stored threshold; by default the lowest one stored.

        Raises:
            UsageError: No threshold is stored for `far`.
        """
        from densekit.metrics.embedding.verification import known_thresholds

        if given is not None:
            return Threshold(given, None)
        known = known_thresholds(self.info)
        rate = min(known, default=None) if far is None else far
        if rate is not None and rate not in known:
            stored = ", ".join(f"{found:g}" for found in known) or "none"
            raise UsageError(
                f"far: expected a rate for which the checkpoint has a threshold ({stored}),"
                f" got {rate:g}"
            )
        return None if rate is None else Threshold(known[rate], rate)


def embedder_of(options: Mapping[str, Any]) -> Embedder:
    """Builds the embedder that a command's options ask for.

    Args:
        options: Values of `OPTIONS`.

    Raises:
        UsageError: An option is wrong, or no head of the checkpoint returns embeddings.
    """
    path = checkpoint_file(options["checkpoint"])
    from densekit.app.prediction.calibration import calibration_of
    from densekit.inference import Predictor

    device = device_name(options["device"])
    predictor = Predictor(
        path,
        device=device,
        precision=options["precision"],
        engine=options["engine"],
        trust=trusted_packages(options["trust"]),
        calibration=calibration_of(path, options),
    )
    info = predictor.model.info
    head = _head(info.get("heads", {}), options["head"], path)
    rule = info.get("prepared", {}).get(head)
    predictor.frames.expected = [] if rule is None else [rule]
    if rule is None:
        logger.warning(
            "%s does not state how its training images were prepared: for images of another "
            "size or crop, similarities are meaningless",
            path,
        )
    return Embedder(predictor, head)


def no_threshold(options: Mapping[str, Any]) -> str:
    """Message for the case that there is no threshold."""
    checkpoint = quoted(f"checkpoint={options['checkpoint']}")
    words = f"{checkpoint} artifact=FILE data=NAME"
    words += with_trust(trusted_packages(options["trust"]))
    return (
        "no answer: the checkpoint has no threshold. Set one with threshold=NUMBER, or measure and"
        f" store some with densekit eval {words}"
    )


def _head(known: Mapping[str, Mapping[str, Any]], wanted: Any, path: Path) -> str:
    able = [name for name, head in known.items() if "num_identities" in head]
    if not able:
        raise UsageError(f"checkpoint: expected a head with embeddings, got none in {path}")
    if wanted is not None and wanted not in able:
        raise UsageError(unknown("head", wanted, able))
    if wanted is None and len(able) > 1:
        raise UsageError(f"head: expected one of {', '.join(able)}, got nothing; head={able[0]}")
    return str(wanted or able[0])
