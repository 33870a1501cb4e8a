"""What engines of fixed shapes share: one program per bucket, proven before its first answer.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from densekit._files import write_text
from densekit.inference.engines.buckets import Shape, bucket_of, cut, fill
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.proof import EngineError, first_difference, is_comparable
from densekit.model import DenseModel
from densekit.types import Batch, Features, Predictions

log = logging.getLogger(__name__)

MOST = 8
"""Programs of one engine; images of further shapes are predicted by PyTorch itself."""
TRIALS = 3
"""Batches without any box on which a proof is tried again."""

Program = Callable[[Tensor, Tensor], Mapping[str, Tensor]]
"""Computes predictions by `HEAD/KEY` from `image` (B, C, *S), float32 in the unit of the model's
mean and std, and `size` (B, D); both are contiguous, as compiled kernels read raw memory."""


class Compiled:
    """An engine whose programs each take batches of one shape.

    Args:
        name: Of the engine.
        model: In eval mode.
        precision: Of the engine.
        compiled: Returns the program for batches of a shape (B, *S).
        cache: Holds the proofs of earlier starts.
        key: What a program depends on besides the model, such as the version of the runtime.
    """

    def __init__(
        self,
        name: str,
        model: DenseModel,
        precision: str,
        compiled: Callable[[Shape], Program],
        cache: Cache | None = None,
        key: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.precision = precision
        self.model = model
        self.programs: dict[Shape, Program] = {}
        self._compiled = compiled
        self._cache = cache
        self._key = dict(key or {})
        self._trials: dict[Shape, int] = {}
        self._said = False

    @torch.inference_mode()
    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        """Returns what `DenseModel.predict` returns; `features` are computed anew."""
        image, size = self.model.in_unit(batch["image"]).float(), batch["size"]
        shape = (len(image), *image.shape[2:])
        bucket = bucket_of(shape, list(self.programs), self.model.size_divisor)
        if bucket not in self.programs and len(self.programs) >= MOST:
            self._say_eager(shape)
            return type(self.model).predict(self.model, batch, features, heads)
        image, size = fill(image, size, bucket)
        if bucket not in self.programs:
            self.programs[bucket] = self._compiled(bucket)
        found = nested(self.programs[bucket](image.contiguous(), size.contiguous()))
        if self._trials.get(bucket, 0) < TRIALS:
            self._prove(bucket, {"image": image, "size": size}, found)
        found = cut(found, len(batch["image"]))
        return {head: found[head] for head in (self.model.heads if heads is None else heads)}

    def _prove(self, bucket: Shape, batch: Batch, found: Mapping[str, Predictions]) -> None:
        """Compares predictions with those of PyTorch, unless an earlier start has.

        Raises:
            EngineError: They differ.
        """
        self._trials[bucket] = self._trials.get(bucket, 0) + 1
        if not is_comparable(found):  # without any box nothing is proven yet
            return
        self._trials[bucket] = TRIALS
        prove = partial(self._compare, batch, found)
        if self._cache is None:
            prove()
            return
        name = f"{label(self.name, self.precision, bucket)}-proof"
        self._cache.kept(name, self._key, lambda folder: _keep(prove, folder), quiet=True)

    def _compare(self, batch: Batch, found: Mapping[str, Predictions]) -> None:
        expected = type(self.model).predict(self.model, batch)
        if difference := first_difference(expected, found, self.precision):
            raise EngineError(
                f"engine={self.name} computes wrong numbers here in {self.precision}: {difference};"
                " they are right with engine=eager precision=fp32"
            )

    def _say_eager(self, shape: Shape) -> None:
        if not self._said:
            sides = "x".join(map(str, shape[1:]))
            log.warning(
                "engine=%s has programs for %d shapes of images; others, of %s for instance, are"
                " predicted by PyTorch in float32",
                self.name, MOST, sides,
            )  # fmt: skip
        self._said = True


def label(engine: str, precision: str, shape: Shape) -> str:
    """Returns the name of a program in the cache, `inductor-bf16-1x800x1088`."""
    return f"{engine}-{precision}-{'x'.join(map(str, shape))}"


def nested(flat: Mapping[str, Tensor]) -> dict[str, Predictions]:
    """Returns predictions by head and key, from those by `HEAD/KEY`."""
    found: dict[str, Predictions] = {}
    for name, value in flat.items():
        head, _, key = name.partition("/")
        found.setdefault(head, {})[key] = value
    return found


def _keep(prove: Callable[[], None], folder: Path) -> None:
    prove()
    write_text(folder / "proven.txt", "equal to float32 within the tolerance\n")
