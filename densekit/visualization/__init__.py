"""Pictures for people: boxes and masks over an image, legends, panels beside each other, grids.

Everything takes and returns (H, W, 3) uint8 arrays; PIL draws.
"""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "as_picture": "series",
        "at_most": "images",
        "class_colour": "colours",
        "draw_boxes": "boxes",
        "draw_mask": "masks",
        "draw_series": "series",
        "foreground_of_slices": "masks",
        "grid": "panels",
        "palette": "colours",
        "save_picture": "images",
        "series_bands": "series",
        "side_by_side": "panels",
        "to_grey": "images",
        "to_rgb": "images",
        "with_legend": "masks",
    },
)
