"""MONAI's dictionary transforms by name; MONAI is imported only when one is used.

C channels, P planes of the mask, S the D sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from densekit._extras import need
from densekit._names import check_keys, unknown
from densekit.data.transforms.volume_steps import STEPS, Pair
from densekit.types import IGNORE_INDEX

_BOTH = ("image", "mask")
_MOVES_VOXELS = ("spatial", "croppad")
"""Packages of `monai.transforms` whose classes move masks too."""
_AUGMENTS = (*_MOVES_VOXELS, "intensity", "signal", "smooth_field")
"""Packages whose classes only change arrays; others read, write, or import by name."""


class MonaiStep:
    """One dictionary transform: linear in the image, nearest in the mask, seeded by the generator.

    Args:
        name: Name of the transform, without the `d` of its dictionary form.
        arguments: Its arguments; `keys` and the mask's modes are set here.
        key: The configuration key, for messages.

    Raises:
        ValueError: For a name or an argument that MONAI does not know, with the nearest.
        ImportError: MONAI is not installed.
    """

    def __init__(self, name: str, arguments: Mapping[str, Any], key: str) -> None:
        cls = _class(name, key)
        parameters = inspect.signature(cls.__init__).parameters
        accepted = [p for p in parameters if p not in ("self", "keys", "allow_missing_keys")]
        check_keys(f"{key}.{name}", arguments, accepted)
        values = dict(arguments)
        moves = cls.__module__.split(".")[2] in _MOVES_VOXELS
        if moves:
            values |= _modes(parameters, values)
        try:
            self._transform = cls(keys=_BOTH if moves else _BOTH[:1], **values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}.{name}: expected valid arguments, got: {error}") from error

    def __call__(self, image: NDArray[Any], mask: NDArray[Any], rng: np.random.Generator) -> Pair:
        """See `volume_steps.Step`."""
        if hasattr(self._transform, "set_random_state"):
            self._transform.set_random_state(seed=int(rng.integers(2**32)))
        # The mask is passed inverted, so that the zeros that MONAI fills in become 255 (ignored).
        given = {"image": np.array(image), "mask": IGNORE_INDEX - mask}
        changed = self._transform(given)
        moved = _plain(changed["mask"])
        return _plain(changed["image"]), IGNORE_INDEX - np.rint(moved).astype(np.uint8)


def _class(name: str, key: str) -> Any:
    transforms = need("monai.transforms", f"{key}: {name!r}, which is none of {', '.join(STEPS)},")
    known = {
        found.removesuffix("d"): cls
        for found, cls in inspect.getmembers(transforms, inspect.isclass)
        if found.endswith("d")
        and issubclass(cls, transforms.MapTransform)
        and cls.__module__.split(".")[2] in _AUGMENTS
    }
    if name not in known:
        raise ValueError(unknown(key, name, [*STEPS, *known]))
    return known[name]


def _modes(parameters: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Interpolation and padding of image and mask, where the transform has them."""
    enums = need("monai.utils", "augmentation")
    fills = {enums.GridSamplePadMode: "zeros", enums.NumpyPadMode: "constant"}
    kinds = {enums.GridSampleMode: "nearest", enums.InterpolateMode: "nearest"}
    modes = {}
    for key, of_mask in (("mode", kinds), ("padding_mode", fills)):
        default = parameters[key].default if key in parameters else None
        for kind, value in of_mask.items():
            accepted = [member.value for member in kind]
            if default in accepted:
                modes[key] = (given.get(key, default), value)
    return modes


def _plain(array: Any) -> NDArray[Any]:
    tensor = torch.as_tensor(array).as_subclass(torch.Tensor)
    plain: NDArray[Any] = tensor.numpy()
    return plain
