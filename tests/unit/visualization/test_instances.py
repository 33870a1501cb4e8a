from __future__ import annotations

import numpy as np
import pytest

from densekit.ops.run_lengths import encode
from densekit.visualization.boxes import draw_boxes
from densekit.visualization.colours import class_colour
from densekit.visualization.instances import OPACITY, draw_instances, draw_objects
from tests.unit.visualization.canvas import grey

BOXES = np.array([[100, 100, 400, 400], [150, 150, 250, 250]])


def masks():
    planes = np.zeros((2, 500, 640), bool)
    planes[0, 110:390, 110:390] = planes[1, 160:240, 160:240] = True
    return encode(planes)


def blended(label):
    return tuple(np.round(128 + OPACITY * (np.array(class_colour(label)) - 128)))


def test_each_object_has_its_own_colour_and_small_ones_lie_above():
    drawn = draw_instances(grey(), masks(), BOXES, [7, 7], list("abcdefgh"), [0.5, 0.9])
    assert tuple(drawn[350, 350]) == blended(0)
    assert tuple(drawn[200, 220]) != blended(0)
    assert tuple(drawn[300, 100]) == class_colour(0)  # box, in the colour of the mask
    assert tuple(drawn[350, 110]) == class_colour(0)  # contour
    assert tuple(drawn[450, 500]) == (128, 128, 128)


def test_masks_of_another_size_lie_where_their_boxes_do():
    drawn = draw_objects(
        grey(250, 320), {"boxes": BOXES, "labels": [0, 0], "masks": masks()}, ["cat"], (0.5, 0.5)
    )
    factor = drawn.shape[0] // 250
    assert tuple(drawn[175 * factor, 175 * factor]) == blended(0)
    assert tuple(drawn[197 * factor, 197 * factor]) == (128, 128, 128)  # in the box alone


def test_without_masks_boxes_have_the_colours_of_their_classes():
    result = {"boxes": BOXES, "labels": np.array([1, 0]), "scores": np.array([0.5, 0.9])}
    names = ["cat", "dog"]
    expected = draw_boxes(grey(), BOXES, [1, 0], names, [0.5, 0.9])
    np.testing.assert_array_equal(draw_objects(grey(), result, names), expected)


def test_masks_without_pixels_and_too_few_masks():
    empty = encode(np.zeros((1, 500, 640), bool))
    expected = draw_boxes(grey(), BOXES[:1], [0], ["cat"])
    found = draw_instances(grey(), empty, BOXES[:1], [0], ["cat"])
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="masks: expected one per box, 2, got 1"):
        draw_instances(grey(), empty, BOXES, [0, 0], ["cat"])
