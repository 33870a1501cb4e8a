"""Prints the findings of `densekit plan` for boxes as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit.app.planning.boxes.reach import resized, scales
from densekit.app.planning.boxes.rules import SMALL, Plan, largest, rule_of, small_side
from densekit.app.terminal import print_lines, print_numbers
from densekit.data.box_fingerprint import BoxFingerprint
from densekit.ops.resize import ResizeRule

PERCENTILES = (1, 10, 50, 90, 99)
FASTER = 0.8
"""Share of the shorter side below which a smaller one is mentioned."""
BANDS = (8, 16, 32, 64, 128, 256)
"""Borders of the sizes of objects in the table of reach: square roots of areas, in pixels."""
BY_IOU = ", IoU"
"""What the column of an assignment by IoU alone ends with."""


def report_data(found: BoxFingerprint, images: int, rule: ResizeRule | None) -> None:
    """Prints sizes of images and objects, as they are stored and as the network will see them."""
    percentiles = [f"{value} %" for value in PERCENTILES]
    one = np.ones(len(found.sizes))
    rows = [
        ["image, shorter side", *_spread(found.sizes.min(1))],
        ["image, longer side", *_spread(found.sizes.max(1))],
    ]
    for what, factor in (("stored", one), ("planned", scales(found, rule))):
        sides = found.sides(factor)
        rows += [
            [f"object, {what}: height", *_spread(sides[:, 0])],
            [f"object, {what}: width", *_spread(sides[:, 1])],
            [f"object, {what}: square root of area", *_spread(np.sqrt(sides.prod(1)))],
        ]
    ratio = found.sides(one)
    rows.append(["object, height over width", *_spread(ratio[:, 0] / ratio[:, 1], 2)])
    empty = len(found.sizes) - len(np.unique(found.image_of))
    title = f"{images} training images, {len(found.sizes)} inspected ({empty} without objects)"
    print_numbers(["pixels", *percentiles], rows, title)
    counts = np.bincount(found.labels, minlength=len(found.names))
    rows = [
        [name, str(count), f"{count / counts.sum():.1%}"]
        for name, count in zip(found.names, counts, strict=True)
    ]
    print_numbers(["class", "objects", "share"], rows, "classes")


def report_reach(
    sides: NDArray[Any], by_setting: Mapping[str, NDArray[np.bool_]], columns: Sequence[str]
) -> None:
    """Prints the share of objects that is not reached, by size.

    Args:
        sides: (M,) square roots of the areas as the network sees them, in pixels.
        by_setting: What a column is headed to which objects (M,) it reaches.
        columns: The keys of `by_setting`, in their order.
    """
    place = np.digitize(sides, BANDS)
    names = [f"below {BANDS[0]}", *(f"{a} to {b}" for a, b in zip(BANDS, BANDS[1:], strict=False))]
    names.append(f"from {BANDS[-1]}")
    rows = []
    for band, name in enumerate(names):
        inside = place == band
        if inside.any():
            missing = [f"{1 - by_setting[column][inside].mean():.1%}" for column in columns]
            rows.append([name, str(int(inside.sum())), *missing])
    whole = [f"{1 - by_setting[column].mean():.1%}" for column in columns]
    rows.append(["all", str(len(sides)), *whole])
    title = "share of objects that no anchor or point is trained towards"
    print_numbers(["side in pixels", "objects", *columns], rows, title)
    if any(column.endswith(BY_IOU) for column in columns):
        print_lines("IoU: without the rule that every object claims its best anchors (low_quality)")


def report_plan(found: BoxFingerprint, plan: Plan) -> None:
    """Prints why the images are resized, the batch and the padding."""
    small = small_side(found, scales(found, plan.resize))
    print_lines(f"resize: {_rule(plan.resize)}; small objects have {small:.0f} pixels")
    height, width = largest(found, plan.resize)
    shorter = float(np.median(resized(found.sizes, plan.resize).min(1)))
    faster = rule_of(shorter * SMALL / small)
    if faster["min_size"] < FASTER * shorter:
        share = (faster["min_size"] / shorter) ** 2
        words = " ".join(f"resize.{key}={value}" for key, value in faster.items())
        print_lines(f"faster: {words} takes {share:.0%} of the time, small objects {SMALL} pixels")
    random, grouped = plan.padding
    chosen = "planned" if plan.group_by_aspect else "not planned"
    print_lines(
        f"padding: {random:.0%} of a batch, {grouped:.0%} with group_by_aspect, which is {chosen}",
        f"a step of {plan.batch_size} images of at most {height} x {width} takes about"
        f" {plan.memory:.1f} GiB in float32",
    )


def _rule(rule: ResizeRule | None) -> str:
    if rule is None:
        return "none, images as they are stored"
    return f"shorter side {rule['min_size']}, longer at most {rule['max_size']}"


def _spread(values: NDArray[Any], digits: int = 0) -> list[str]:
    return [f"{value:.{digits}f}" for value in np.percentile(values, PERCENTILES)]
