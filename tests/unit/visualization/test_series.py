from __future__ import annotations

import numpy as np

from densekit.visualization.colours import class_colour
from densekit.visualization.series import draw_series


def test_each_channel_of_a_series_has_its_colour_and_its_band() -> None:
    picture = draw_series(np.stack([np.arange(40), np.zeros(40)], axis=1))
    assert picture.shape == (240, 480, 3)
    rows = [np.flatnonzero((picture == class_colour(c)).all(2).any(1)) for c in (0, 1)]
    assert rows[0].max() < 120 <= rows[1].min()
    assert rows[0].max() - rows[0].min() > 80  # over the height of the band
    assert rows[1].max() - rows[1].min() < 4  # a constant
