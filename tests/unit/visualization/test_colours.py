from __future__ import annotations

from densekit.visualization.colours import class_colour, palette


def test_class_colours_differ_and_are_stable():
    colours = [class_colour(k) for k in range(80)]
    assert len(set(colours)) == 80
    assert colours == [class_colour(k) for k in range(80)]


def test_stored_values_get_the_colours_of_their_classes():
    colours = palette({7: 3, 255: 0})
    assert colours.shape == (256, 3)
    assert tuple(colours[7]) == class_colour(3)
    assert tuple(colours[255]) == class_colour(0)
    assert not colours[[0, 3]].any()
