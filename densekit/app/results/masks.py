"""Writes masks of 2-D images as PNG files of stored values, and draws them over their images.

Shape letters: H and W the sides of an image, C its channels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import replacing, write_json
from densekit._names import foreground

if TYPE_CHECKING:
    from numpy.typing import NDArray

PREVIEW = 2000
"""Longer side of a huge image's overlay in pixels."""


class MaskClasses:
    """Maps the classes of a head to the values in stored masks.

    Args:
        head: `info["heads"][HEAD]`.

    Attributes:
        drawn: Mask value (multi-label: channel) to name of every class but the background.
        values: Mask value to stored value: the data set's own if it has one. For multi-label masks,
            the two values for no and yes.
        order: Value of each region in a label map; empty if regions are stored as planes.
    """

    def __init__(self, head: Mapping[str, Any]) -> None:
        self.drawn = foreground(head)
        self.multilabel = bool(head.get("multilabel"))
        count = max(2, len(head["names"]))
        own = list(head.get("ids") or [])
        if self.multilabel:
            own, count = list(head.get("plane_values") or [0, 1]), 2
        elif head.get("num_classes") == 1:  # everything but the one class is 0
            own = [0, *own[-1:]]
        whole = [value for value in own if isinstance(value, int) and 0 <= value < 1 << 16]
        usable = len(set(whole)) == len(own) == count
        self.values: list[int] = whole if usable else list(range(count))
        self.order: list[int] = list(head.get("regions_class_order") or ())

    def table(self, largest: int) -> list[int]:
        """Returns the stored value of each mask value; class indices if one exceeds `largest`."""
        fits = max(self.values) <= largest
        return self.values if fits else list(range(len(self.values)))

    def label_map(self, planes: NDArray[Any]) -> NDArray[Any]:
        """Merges regions (K, *S) into a label map (*S), later over earlier ones, as in nnU-Net."""
        import numpy as np

        out = np.zeros(planes.shape[1:], np.uint8 if max(self.order) < 256 else np.uint16)
        for plane, value in zip(planes, self.order, strict=True):
            out[plane == 1] = value
        return out

    def labels(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Converts values stored by `table(255)` back to mask values."""
        import numpy as np

        table = np.zeros(256, np.uint8)
        table[self.table(255)] = np.arange(len(self.values))
        found: NDArray[Any] = table[stored]
        return found

    def legend(self, largest: int) -> list[dict[str, Any]]:
        """Returns stored value, name and colour of each drawn class, for `classes.json`."""
        from densekit.visualization.colours import class_colour

        table = self.table(largest)
        return [
            {
                "value": self._stored(value, table),
                "name": name,
                "colour": list(class_colour(value)),
            }
            for value, name in self.drawn.items()
        ]

    def _stored(self, value: int, table: list[int]) -> int:
        if self.order:
            return self.order[value]
        return table[1 if self.multilabel else value]


class MaskWriter:
    """Writes `masks/NAME.png`, one file per class if classes overlap, and overlays."""

    largest = 255

    def write(self, mask: NDArray[Any], classes: MaskClasses, file: Path) -> None:
        """Writes a mask.

        Args:
            mask: (H, W) classes or multi-label (K, H, W).
            classes: Of its head.
            file: Without suffix.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        if mask.ndim == 2:
            own = {value: value for value in classes.drawn}
            _save(mask, classes.table(self.largest), own, file)
            return
        for channel, name in classes.drawn.items():
            part = file.with_name(f"{file.name}_{name.replace('/', '_')}")
            _save(mask[channel], classes.table(self.largest), {1: channel}, part)

    def draw(
        self, image: NDArray[Any], mask: NDArray[Any], classes: MaskClasses, file: Path
    ) -> None:
        """Draws the classes over the image (H, W, C), with a legend below."""
        from densekit.visualization.images import save_picture
        from densekit.visualization.masks import overlay

        save_picture(overlay(image, mask, classes.drawn), file)


def write_classes(heads: Mapping[str, list[dict[str, Any]]], output: Path) -> None:
    """Writes `classes.json`: the meaning of the mask values of each head."""
    write_json(output / "classes.json", heads)


def _save(mask: NDArray[Any], table: list[int], colours: Mapping[int, int], file: Path) -> None:
    """Writes a palette PNG.

    Args:
        mask: (H, W) indices into `table`.
        table: Value to store for each index.
        colours: Mask value to the class whose colour it gets.
        file: Without suffix.
    """
    import numpy as np
    from PIL import Image

    from densekit.visualization.colours import palette

    image = Image.fromarray(np.array(table, np.uint8)[mask])
    stored = {table[value]: label for value, label in colours.items()}
    image.putpalette(palette(stored).tobytes())
    with replacing(file.with_name(file.name + ".png")) as part:
        image.save(part)
