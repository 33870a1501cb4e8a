from __future__ import annotations

import numpy as np

from densekit.visualization.categories import describe_category

NAMES = ["cat", "dog", "cow"]


def test_titles_say_what_a_category_is() -> None:
    assert describe_category(np.asarray(1), NAMES) == "dog"
    assert describe_category(np.asarray(3), NAMES) == "3"
    assert describe_category(np.asarray([1, 0, 1]), NAMES) == "cat, cow"
    assert describe_category(np.asarray([0, 0, 0]), NAMES) == "nothing"
    assert describe_category(np.asarray([0.25, 0.75, 0]), NAMES) == "dog 0.75, cat 0.25"
