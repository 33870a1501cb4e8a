from __future__ import annotations

import numpy as np
import pytest

from densekit.visualization.colours import class_colour
from densekit.visualization.images import to_rgb
from densekit.visualization.masks import draw_mask, with_legend
from tests.unit.visualization.canvas import grey


def test_a_class_is_tinted_within_and_outlined_at_its_border():
    mask = np.zeros((500, 640), dtype=np.uint8)
    mask[100:300, 200:400] = 2
    mask[400:] = 255
    drawn = draw_mask(grey(), mask, [1, 2])
    colour = np.array(class_colour(2))
    assert tuple(drawn[100, 300]) == tuple(drawn[200, 200]) == tuple(colour)
    np.testing.assert_allclose(drawn[200, 300], 0.6 * 128 + 0.4 * colour, atol=1)
    assert tuple(drawn[50, 50]) == (128, 128, 128)
    assert (drawn[450] < 60).all()  # void
    assert (draw_mask(grey(), mask, [1])[:400] == 128).all()


def test_a_class_that_fills_the_picture_has_no_border():
    drawn = draw_mask(grey(), np.ones((500, 640), dtype=np.uint8), [1])
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1


def test_overlapping_classes_are_both_drawn():
    mask = np.zeros((2, 500, 640), dtype=np.uint8)
    mask[0, :, :300] = mask[1, :, 200:] = 1
    drawn = draw_mask(grey(), mask, [0, 1])
    inside = [tuple(drawn[250, x]) for x in (100, 250, 500)]
    assert len(set(inside)) == 3
    assert tuple(drawn[250, 299]) == class_colour(0)
    assert tuple(drawn[250, 200]) == class_colour(1)


def test_small_masks_are_enlarged_with_their_image():
    mask = np.zeros((40, 50), dtype=np.uint8)
    mask[10:20, 10:30] = 1
    drawn = draw_mask(grey(40, 50), mask, [1])
    assert drawn.shape == (400, 500, 3)
    assert tuple(drawn[100, 150]) == class_colour(1)
    assert tuple(drawn[99, 150]) == (128, 128, 128)
    with pytest.raises(
        ValueError, match=r"mask: expected the size of the image, \(40, 51\), got \(40, 50\)"
    ):
        draw_mask(grey(40, 51), mask, [1])


def test_legend_stands_beneath_and_wraps():
    picture = to_rgb(grey(60, 300))
    few = with_legend(picture, {1: "one"})
    many = with_legend(picture, {n: f"a class called {n}" for n in range(9)})
    np.testing.assert_array_equal(few[:60], picture)
    assert (few[60:] == class_colour(1)).all(axis=2).any()
    assert many.shape[1] == 300
    assert len(many) > len(few) + 60
    for n in range(9):
        assert (many[60:] == class_colour(n)).all(axis=2).any()
    np.testing.assert_array_equal(with_legend(picture, {}), picture)
