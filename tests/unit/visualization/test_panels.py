from __future__ import annotations

from densekit.visualization.panels import grid, side_by_side
from tests.unit.visualization.canvas import grey


def test_panels_have_one_height_and_keep_their_proportions():
    picture = side_by_side([grey(300, 300), grey(600, 900, 50)], ["truth", "found"])
    assert (picture == 128).all(axis=2).any(axis=0).sum() == 600
    assert (picture == 50).all(axis=2).sum() >= 600 * 895
    assert (picture[:40] > 200).any()  # titles


def test_a_grid_keeps_sizes_and_centres_them_in_cells_of_the_widest():
    cells = [grey(60, 120, 50), grey(20, 60, 90), grey(30, 120, 128)]
    picture = grid(cells, 2)
    assert picture.shape == (60 + 30 + 3 * 4, 2 * 120 + 3 * 4, 3)
    assert (picture[4:64, 4:124] == 50).all()
    assert (picture[24:44, 158:218] == 90).all()
    assert (picture == 90).all(axis=2).sum() == 20 * 60
    assert grid(cells[:1], 4).shape == (68, 128, 3)
