"""Draws boxes, masks and categories over their images, panels, grids and charts.

Pictures are (H, W, 3) uint8 arrays, drawn by Pillow; charts are drawn by matplotlib into a file.
"""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "as_picture": "planes",
        "at_most": "images",
        "class_colour": "colours",
        "describe_category": "categories",
        "describe_scores": "categories",
        "draw_boxes": "boxes",
        "draw_category": "categories",
        "draw_confusion": "confusion",
        "draw_curves": "curves",
        "draw_instances": "instances",
        "draw_mask": "masks",
        "draw_outline": "saliency",
        "draw_saliency": "saliency",
        "draw_series": "series",
        "grid": "panels",
        "overlay": "masks",
        "palette": "colours",
        "plane_of": "planes",
        "save_picture": "images",
        "saliency_plane": "saliency",
        "side_by_side": "panels",
        "to_grey": "images",
        "to_rgb": "images",
        "with_legend": "masks",
    },
)
