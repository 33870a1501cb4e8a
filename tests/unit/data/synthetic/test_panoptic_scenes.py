"""Scenes of things and stuff: what every pixel is."""

from __future__ import annotations

import numpy as np

from densekit.data import PanopticScenes
from densekit.ops.run_lengths import decode

SIZE = (64, 80)


def test_every_pixel_is_a_thing_or_stuff() -> None:
    scenes = PanopticScenes("train", 6, size=SIZE)
    seen = set()
    for index in range(6):
        sample = scenes[index]
        of_things = decode(sample["truth"]["masks"], SIZE).sum(0)
        assert of_things.max() == 1
        np.testing.assert_array_equal(sample["mask"] == 0, of_things == 1)
        np.testing.assert_array_equal(sample["truth"]["mask"], sample["mask"])
        stuff = set(np.unique(sample["mask"]).tolist()) - {0}
        assert len(stuff) in (2, 3)
        seen |= stuff
    assert seen == {1, 2, 3}
    described = scenes.describe()
    assert described["names"][0] == "disc"
    assert described["targets"]["mask"]["names"] == ["things", "sand", "grass", "water"]
    assert described["targets"]["mask"]["ids"] == [0, 6, 7, 8]


def test_an_image_depends_on_its_split_and_number_alone() -> None:
    scenes, again = (PanopticScenes("val", 3, size=SIZE) for _ in range(2))
    np.testing.assert_array_equal(scenes[2]["image"], again[2]["image"])
    assert (PanopticScenes("test", 3, size=SIZE)[2]["mask"] != again[2]["mask"]).any()
