from __future__ import annotations

import numpy as np
import pytest

from densekit.visualization.boxes import _overlap, _tag_spots, draw_boxes
from densekit.visualization.colours import class_colour
from densekit.visualization.fonts import typeset
from tests.unit.visualization.canvas import grey

NAMES = ["cat", "dog", "bird"]


def painted(before, after):
    """Where a picture was changed."""
    return (before != after).any(axis=2)


def test_a_box_is_outlined_in_its_colour_with_a_filled_tag_above():
    image = grey()
    drawn = draw_boxes(image, [[200, 200, 400, 350]], [1], NAMES, [0.5])
    colour = class_colour(1)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert tuple(drawn[275, 200]) == tuple(drawn[275, 399]) == tuple(drawn[349, 300]) == colour
    assert tuple(drawn[275, 300]) == (128, 128, 128)
    tag = drawn[185:198, 201:230].reshape(-1, 3)
    assert (tag == colour).all(axis=1).mean() > 0.4  # filled
    assert (tag.sum(axis=1) < 200).any()  # with dark text on it
    assert (image == 128).all()  # the caller's image is left alone


def test_scores_make_the_tag_longer():
    box = [[200, 200, 400, 350]]
    plain = draw_boxes(grey(), box, [0], NAMES)
    scored = draw_boxes(grey(), box, [0], NAMES, [0.75])
    assert painted(grey(), scored)[180:198].any(axis=0).sum() > (
        painted(grey(), plain)[180:198].any(axis=0).sum() + 20
    )


def test_small_images_are_enlarged_by_a_whole_number():
    drawn = draw_boxes(grey(40, 50), [[10, 10, 30, 30]], [0], NAMES)
    assert drawn.shape == (400, 500, 3)
    assert tuple(drawn[200, 101]) == class_colour(0)


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 5, 5],
        [630, 490, 900, 900],
        [700, 700, 800, 800],
        [100, 100, 100, 100],
        [300, 300, 200, 200],
        [0, 0, 640, 500],
    ],
)
def test_boxes_on_and_beyond_the_border_are_drawn_inside(box):
    drawn = draw_boxes(grey(), [box], [2], NAMES)
    assert drawn.shape == (500, 640, 3)
    assert painted(grey(), drawn).any()


def test_no_boxes_leave_the_image_as_it_is():
    empty = np.zeros((0, 4))
    np.testing.assert_array_equal(draw_boxes(grey(), empty, [], NAMES, []), grey())


def test_boxes_without_labels_are_refused():
    with pytest.raises(ValueError, match="labels: expected one per box, 2, got 1"):
        draw_boxes(grey(), np.zeros((2, 4)), [0], NAMES)


def test_tags_of_neighbours_do_not_hide_each_other():
    boxes = np.array([[200, 200, 400, 350], [202, 202, 402, 352], [204, 198, 398, 352]])
    texts = typeset(["one name", "another", "a third"], 14)
    places = _tag_spots(boxes, texts, (640, 500))
    for n, place in enumerate(places):
        assert all(_overlap(place, other) == 0 for other in places[:n])
