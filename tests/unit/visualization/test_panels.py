from __future__ import annotations

from densekit.visualization.panels import grid, side_by_side
from tests.unit.visualization.canvas import grey


def test_panels_have_one_height_and_keep_their_proportions():
    picture = side_by_side([grey(300, 300), grey(600, 900, 50)], ["truth", "found"])
    assert (picture == 128).all(axis=2).any(axis=0).sum() == 600
    assert (picture == 50).all(axis=2).sum() >= 600 * 895
    assert (picture[:40] > 200).any()  # titles


def test_grid_sizes():
    cells = [grey(100, 200, value) for value in (60, 90, 120)]
    picture = grid(cells, 2, cell_width=120)
    assert picture.shape == (2 * 60 + 3 * 4, 2 * 120 + 3 * 4, 3)
    assert grid(cells[:1], 4, cell_width=120).shape == (68, 128, 3)
