"""`Explainer`: explains predictions of a model and measures the explanations.

Shape letters: S the sizes of the original image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from densekit._names import choose as choose_name
from densekit.explain.choosing import AUTO, check_wanted, choose, described, targets_of
from densekit.explain.faithfulness import Faithfulness, faithfulness, random_map
from densekit.explain.gradients import check_levels
from densekit.explain.methods import METHODS
from densekit.explain.randomised import MOST_ALIKE, randomised, rank_correlation
from densekit.explain.settings import Settings
from densekit.explain.subject import Subject, silent
from densekit.explain.target import Target
from densekit.inference.inferer import Inferer

if TYPE_CHECKING:
    from densekit.inference import Predictor
    from densekit.inference.inputs import Image


@dataclass(frozen=True)
class Explanation:
    """Why a model predicted a target in one image.

    Attributes:
        target: Name of the class, or "similarity".
        method: A key of `METHODS`.
        score: Of the target in the image itself.
        saliency: (*S) float32, larger where a pixel speaks for the target.
        outline: (*S) bool, the region that is explained; None for the whole image.
        measured: Areas under the deletion and insertion curves; None if they were not measured.
        random: Those of a random map of the same smoothness.
        correlation: Rank correlation with the map of the model with random weights; None if it was
            not checked.
    """

    target: str
    method: str
    score: float
    saliency: NDArray[np.float32]
    outline: NDArray[np.bool_] | None
    measured: Faithfulness | None
    random: Faithfulness | None
    correlation: float | None

    @property
    def depends_on_weights(self) -> bool | None:
        """Whether the map differs from that of a model with random weights; None if unknown."""
        return None if self.correlation is None else abs(self.correlation) <= MOST_ALIKE


class Explainer:
    """Explains what a model predicts in images or volumes.

    Args:
        predictor: Of the model; methods without gradients use its engine.
        head: The head to explain; may be left out if there is only one.
        method: A key of `METHODS`, or "auto" for the target's preferred one.
        settings: What an explanation costs and how it is checked.
        batch_size: Images per forward pass.
        advance: Called with the number of images after each forward pass.

    Raises:
        ValueError: There is no such head, method or level, the model predicts volumes slice by
            slice or by a function of its own, or the method needs gradients that the engine does
            not have.
    """

    def __init__(
        self,
        predictor: Predictor,
        head: str | None = None,
        method: str = AUTO,
        settings: Settings | None = None,
        batch_size: int = 4,
        advance: Callable[[int], None] = silent,
    ) -> None:
        model, engine = predictor.model, predictor.engine
        self.predictor, self.model = predictor, model
        self.head = _head(list(model.heads), head)
        self.method, self.settings = method, settings or Settings()
        self.batch_size, self.advance = batch_size, advance
        self.has_gradients = (engine.name, engine.precision) == ("eager", "fp32")
        chosen = choose_name("method", method, {AUTO: None, **METHODS})
        if chosen is not None and chosen.needs_gradients and not self.has_gradients:
            raise ValueError(self._needs_eager(method))
        check_levels(model.heads[self.head], self.settings.levels)
        if predictor.frames.slices:
            raise ValueError(
                "checkpoint: expected a network of images or of whole volumes, got one that"
                " predicts volumes slice by slice"
            )
        if not isinstance(predictor.inferer, Inferer):
            raise ValueError(
                "inferer: expected a densekit.inference.Inferer, which predicts without restoring,"
                f" got {type(predictor.inferer).__name__}"
            )

    def subject(self, image: Image, where: str = "image") -> Subject:
        """Reads an image and brings it into the network's frame.

        Args:
            image: One of those that `Predictor` takes.
            where: Its name in messages.

        Raises:
            ValueError: It cannot be read, or is not an image for this model.
        """
        batch = self.predictor.batch([self.predictor.frames.prepared(image, where)])
        pixels, meta = self.model.in_unit(batch["image"])[0].float(), batch["meta"][0]
        inferer = self.predictor.inferer
        return Subject(self.model, self.head, pixels, meta, inferer, self.batch_size, self.advance)

    def targets(self, subject: Subject, pair: Subject | None = None) -> list[Target]:
        """Predicts an image; returns what can be explained in it, the best first.

        Args:
            subject: The image.
            pair: The image that its embedding is compared with.

        Raises:
            ValueError: The head needs a pair or has no use for one, or cannot be explained.
        """
        predictions = subject.predictions(subject.image[None])
        other = None if pair is None else pair.predictions(pair.image[None])
        return targets_of(self.model, self.head, predictions, subject.sides, other)

    def explain(self, subject: Subject, target: Target, draw: int = 0) -> Explanation:
        """Computes the map of a target and measures it.

        Args:
            subject: The image.
            target: What is explained, one of `targets`.
            draw: Number of the random map, another one for every map that is measured.

        Raises:
            ValueError: The method is not for this target, or not for this image.
        """
        settings, name = self.settings, self.method_of(subject, target)
        compute = METHODS[name].compute
        saliency = compute(subject, target, settings)
        measured = rival = correlation = None
        if settings.faithfulness:
            other = random_map(saliency, settings.seed + draw)
            measured = faithfulness(subject, target, saliency, settings.steps)
            rival = faithfulness(subject, target, other, settings.steps)
        if settings.check:
            # other masks: the same would leave the same noise in both maps
            again = replace(settings, seed=settings.seed + 1)
            random = compute(randomised(subject, settings.seed), target, again)
            correlation = rank_correlation(saliency, random)
        outline = target.outline(subject.sides)
        return Explanation(
            target=target.name,
            method=name,
            score=float(subject.scores([subject.image], target)[0]),
            saliency=subject.restored(saliency),
            outline=None if outline is None else subject.restored(outline.float()) > 0.5,
            measured=measured,
            random=rival,
            correlation=correlation,
        )

    def __call__(self, image: Image, target: str = AUTO, pair: Image | None = None) -> Explanation:
        """Explains one target of one image.

        Args:
            image: One of those that `Predictor` takes.
            target: "auto" for the best of the prediction, a class name, or K for the K-th best.
            pair: The image to compare with, for embeddings.

        Raises:
            ValueError: The target is unknown or not predicted, or the method is not for it.
        """
        check_wanted(target, described(self.model, self.head))
        subject = self.subject(image)
        other = None if pair is None else self.subject(pair, "pair")
        return self.explain(subject, choose(target, self.targets(subject, other)))

    def passes(self, method: str) -> int:
        """Returns how many images are predicted to explain one target."""
        settings, own = self.settings, METHODS[method].passes(self.settings)
        curves = 4 * (settings.steps + 1) if settings.faithfulness else 0
        return own + curves + (own + 2 if settings.check else 0)

    def method_of(self, subject: Subject, target: Target) -> str:
        """Returns the method for a target: the user's, or the first one without an obstacle.

        Raises:
            ValueError: None can explain it.
        """
        names = list(target.methods) if self.method == AUTO else [self.method]
        obstacles = [self._obstacle(name, subject, target) for name in names]
        for name, obstacle in zip(names, obstacles, strict=True):
            if obstacle is None:
                return name
        raise ValueError(obstacles[0])

    def _obstacle(self, name: str, subject: Subject, target: Target) -> str | None:
        """Why a method cannot explain a target, or None."""
        method, window = METHODS[name], subject.inferer.window
        if name not in target.methods:
            sound = " or ".join(target.methods)
            return f"method: expected {sound} for heads.{self.head}, got {name}"
        if len(subject.sides) not in method.dims:
            return (
                f"method: expected one that takes {len(subject.sides)} dimensions, got {name},"
                " whose masks are for images of 2"
            )
        if method.needs_gradients and not self.has_gradients:
            return self._needs_eager(name)
        if method.needs_gradients and window is not None and _exceeds(subject.sides, window):
            return (
                f"method: expected rise for an image of {_written(subject.sides)} pixels, which the"
                f" model sees in windows of {_written(window)}, got {name}"
            )
        return None

    def _needs_eager(self, name: str) -> str:
        engine = self.predictor.engine
        return (
            f"engine: expected eager with precision=fp32 for method={name}, which needs gradients,"
            f" got {engine.name} with precision={engine.precision}; method=rise takes any engine"
        )


def _head(heads: Sequence[str], chosen: str | None) -> str:
    """The head to explain.

    Raises:
        ValueError: It does not exist, or there are several and none is chosen.
    """
    if chosen is not None:
        return choose_name("head", chosen, dict(zip(heads, heads, strict=True)))
    if len(heads) != 1:
        raise ValueError(f"head: expected one of {', '.join(heads) or 'some head'}, got none")
    return heads[0]


def _exceeds(sides: Sequence[int], window: Sequence[int]) -> bool:
    return any(side > limit for side, limit in zip(sides, window, strict=True))


def _written(sides: Sequence[int]) -> str:
    return " x ".join(map(str, sides))
