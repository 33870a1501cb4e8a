"""Augmentation by torchvision's transforms: RandAugment, TrivialAugment and others.

H, W the size of the image, C its channels.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from densekit._names import check_keys, unknown
from densekit.types import Sample

_KEPT = {"image", "category", "identity", "index", "meta", "truth"}
_KEY = "TorchvisionAugment.steps"


class TorchvisionAugment:
    """Transforms of `torchvision.transforms.v2` by name, for images of a category or an identity.

        steps:
          TrivialAugmentWide: {}
          RandomErasing: {p: 0.1, value: [124, 116, 104]}

    They run in the order of the mapping, on the image as it is stored. For flips, crops and colours
    `Augment` is faster.

    Args:
        steps: Name of a torchvision class to its arguments.

    Raises:
        ValueError: For a name or an argument that torchvision does not know, with the nearest.
    """

    def __init__(self, steps: Mapping[str, Mapping[str, Any] | None]) -> None:
        self._steps = [_build(name, arguments or {}) for name, arguments in steps.items()]

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The augmented sample; all randomness comes from the generator.

        Raises:
            ValueError: If the sample has targets that would not follow the image.
        """
        if left := sorted(set(sample) - _KEPT):
            raise ValueError(
                f"TorchvisionAugment: expected no target that moves with the image, got {left}"
            )
        image = torch.from_numpy(np.ascontiguousarray(sample["image"])).movedim(-1, 0)  # (C, H, W)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(rng.integers(2**63)))  # of the CPU only
            for step in self._steps:
                image = step(image)
        out = sample.copy()
        out["image"] = np.ascontiguousarray(image.movedim(0, -1).numpy())  # (H, W, C)
        return out


def _build(name: str, arguments: Mapping[str, Any]) -> Any:
    from torchvision.transforms import v2

    members = inspect.getmembers(v2, inspect.isclass)
    known = {key: cls for key, cls in members if issubclass(cls, v2.Transform)}
    if name not in known:
        raise ValueError(unknown(f"{_KEY} (torchvision)", name, known))
    accepted = [p for p in inspect.signature(known[name].__init__).parameters if p != "self"]
    check_keys(f"{_KEY}.{name}", arguments, accepted)
    try:
        return known[name](**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{_KEY}.{name}: expected valid arguments, got: {error}") from error
