"""Training crops of a fixed size, in any dimension, some of them centred on a drawn class.

S the D sizes of the image, C its channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from densekit.data.transforms.class_pixels import draw_class_pixel
from densekit.data.transforms.geometry import crop, pad
from densekit.types import Sample


class Patch:
    """Crops a random window of a fixed size.

    With probability `balanced` the window is centred on a pixel of a class drawn uniformly from
    those in the image, as far as the border allows; otherwise its position is uniform. nnU-Net's
    foreground oversampling is about `balanced: 0.33, skip_background: true`.

    Smaller images are padded on all sides, their masks with 255. The image's padding should equal
    what the model pads with in evaluation, which is 0 after normalisation by mean and std: so the
    default is 0 for data scaled by the data set (`intensity`), and `fill` should be the mean for
    8-bit images. (0 after scaling is background for windows, percentiles and z-scores of the
    foreground; the minimum of a crop may be anything.)

    Args:
        size: The D sizes of the window, (height, width) or (z, y, x).
        balanced: Probability that the window is centred on a class, 0 to 1.
        skip_background: Whether class 0 is never drawn; multi-label masks have none.
        fill: Padding value in the unit of the stored image: one, or one per channel.
        extra_fills: Padding values of the maps of plug-ins, by their name in `extra`.
        min_visible: Drop boxes of which a smaller share stays in the window.

    Raises:
        ValueError: For an invalid size or probability; at the first image if D differs, a map has
            no padding value, or the mask is missing.
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        balanced: float = 0.0,
        skip_background: bool = False,
        fill: float | Sequence[float] = 0.0,
        extra_fills: Mapping[str, float] | None = None,
        min_visible: float = 0.1,
    ) -> None:
        if isinstance(size, int) or not size or min(size) < 1:
            raise ValueError(f"Patch.size: expected a list of sizes in pixels, got {size!r}")
        if not 0 <= balanced <= 1:
            raise ValueError(f"Patch.balanced: expected 0 to 1, got {balanced}")
        self.size = tuple(int(side) for side in size)
        self.balanced = balanced
        self.skip_background = skip_background
        self.fill = np.asarray(fill)
        self.extra_fills = dict(extra_fills or {})
        self.min_visible = min_visible

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """The sample cropped to a random window."""
        sides = sample["image"].shape[:-1]
        self._check(sample)
        window = [min(side, own) for side, own in zip(sides, self.size, strict=True)]
        start = self._start(sample, sides, window, rng)
        sample = crop(sample, start, window, min_visible=self.min_visible)
        if tuple(window) == self.size:
            return sample
        before = [(own - side) // 2 for own, side in zip(self.size, window, strict=True)]
        return pad(sample, before, self.size, image_fill=self.fill, extra_fills=self.extra_fills)

    def _start(
        self,
        sample: Sample,
        sides: Sequence[int],
        window: Sequence[int],
        rng: np.random.Generator,
    ) -> list[int]:
        """First index of the window along each axis."""
        room = [side - own for side, own in zip(sides, window, strict=True)]
        centre = None
        if self.balanced and rng.random() < self.balanced:
            centre = draw_class_pixel(
                sample["mask"], len(sides), rng, skip_background=self.skip_background
            )
        if centre is None:
            return [int(rng.integers(most + 1)) for most in room]
        wanted = (c - own // 2 for c, own in zip(centre, window, strict=True))
        return [min(max(first, 0), most) for first, most in zip(wanted, room, strict=True)]

    def _check(self, sample: Sample) -> None:
        path = sample.get("meta", {}).get("path", "an image")
        sides, channels = sample["image"].shape[:-1], sample["image"].shape[-1]
        if len(sides) != len(self.size):
            raise ValueError(
                f"Patch.size: expected {len(sides)} sizes, as {path} has {list(sides)}, got"
                f" {list(self.size)}"
            )
        if self.fill.ndim and self.fill.shape != (channels,):
            raise ValueError(
                f"Patch.fill: expected one value, or one per channel ({channels}), got"
                f" {self.fill.tolist()}"
            )
        if self.balanced and "mask" not in sample:
            raise ValueError(f"Patch.balanced: expected a mask to draw a class from, got {path}")
