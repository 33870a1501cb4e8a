"""A data set measured: counts, spacings, foreground intensities."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data.fingerprint import fingerprint, spread


class Volumes:
    """Two volumes; class 1 fills a block of one, class 2 is nowhere."""

    def __init__(self, names=("background", "a", "b"), background=True, mask=None) -> None:
        self.names, self.background, self.mask = list(names), background, mask

    def __len__(self):
        return 2

    def describe(self):
        return {"names": self.names, "background": self.background}

    def __getitem__(self, index):
        shape = (4, 5, 6 + index)
        mask = np.zeros(shape, np.uint8)
        mask[0, 0, 0] = 255
        image = np.zeros((*shape, 1), np.float32)
        if index == 0:
            mask[1:3, 1:3, 1:3] = 1
            image[mask == 1] = 10
        image[-1, -1, -1] = -7
        return {
            "image": image,
            "mask": mask if self.mask is None else self.mask(mask),
            "meta": {"path": f"{index}.nii"},
            "truth": {"spacing": (2.0 + index, 1.0, 1.0)},
        }


def test_counts_shapes_and_intensities() -> None:
    found = fingerprint(Volumes(), [0, 1])
    assert found.shapes.tolist() == [[4, 5, 6], [4, 5, 7]]
    assert found.spacings.tolist() == [[2, 1, 1], [3, 1, 1]]
    assert found.present.tolist() == [2, 1, 0]
    counted = 4 * 5 * 13 - 2  # one voxel of each is ignored
    np.testing.assert_allclose(found.shares, [(counted - 8) / counted, 8 / counted, 0])
    assert found.lowest == -7
    # The second has no foreground: all of its values stand for it.
    assert found.percentiles.shape == (1, 3)


def test_foreground_alone_gives_the_intensities() -> None:
    assert fingerprint(Volumes(), [0]).percentiles.tolist() == [[10, 10, 10]]


def test_binary_counts_the_ones() -> None:
    found = fingerprint(Volumes(["a"], background=False), [0])
    np.testing.assert_allclose(found.shares, [8 / 119])
    assert found.present.tolist() == [1]


def test_multilabel_counts_each_class() -> None:
    data = Volumes(["a", "b"], False, lambda mask: np.stack([mask == 1, mask >= 0]).astype("u1"))
    found = fingerprint(data, [0])
    np.testing.assert_allclose(found.shares, [8 / 120, 1])


def test_samples_without_a_mask_are_refused() -> None:
    class Boxes(Volumes):
        def __getitem__(self, index):
            return {
                key: value for key, value in super().__getitem__(index).items() if key != "mask"
            }

    with pytest.raises(ValueError, match=r"0\.nii: expected a mask"):
        fingerprint(Boxes(), [0])


def test_spread_covers_the_whole_set_once() -> None:
    assert spread(3, 40) == [0, 1, 2]
    assert spread(101, 3) == [0, 50, 100]
