from __future__ import annotations

from densekit.visualization.colours import class_colour, palette


def test_class_colours_differ_and_are_stable():
    colours = [class_colour(k) for k in range(80)]
    assert len(set(colours)) == 80
    assert colours == [class_colour(k) for k in range(80)]


def test_palette():
    colours = palette()
    assert colours.shape == (256, 3)
    assert tuple(colours[0]) == (0, 0, 0)
    assert tuple(colours[3]) == class_colour(3)
    assert tuple(palette(background=False)[0]) == class_colour(0)
