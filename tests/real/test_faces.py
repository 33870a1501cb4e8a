"""ORL: the lists are what they say, and pixels reach the figures known of these pairs."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.data import IdentityFolder, OpenSet
from densekit.metrics import Identification, Verification

pytestmark = pytest.mark.real


@pytest.fixture
def held_out(folder):
    data = IdentityFolder(folder("faces_orl"), channels=1)
    return OpenSet(data, "pairs_heldout.txt", "{name}/{number}.png")


def test_pairs_are_of_subjects_21_to_40(held_out):
    assert len(held_out) == 200
    people = {held_out.path(i).parent.name for i in range(200)}
    assert people == {f"s{number}" for number in range(21, 41)}
    pairs = np.concatenate([held_out[i]["truth"]["pairs"] for i in range(200)])
    assert len(pairs) == 1800
    assert pairs[:, 1].sum() == 900
    assert np.bincount(pairs[:, 2]).tolist() == [180] * 10


def test_pixels_of_unit_contrast(held_out):
    verification, identification = Verification([0.01]), Identification()
    for i in range(len(held_out)):
        sample = held_out[i]
        pixels = sample["image"].reshape(-1).astype(np.float32)
        results = [{"embedding": pixels - pixels.mean()}]
        verification.update(results, [sample["truth"]])
        identification.update(results, [sample["truth"]])
    figures = {name: float(value) for name, value in verification.compute().items()}
    assert figures["accuracy"] == pytest.approx(0.837, abs=0.003)
    assert figures["tar_at_1e-2"] == pytest.approx(0.449, abs=0.003)
    assert figures["eer"] == pytest.approx(0.159, abs=0.003)
    assert float(identification.compute()["rank_1"]) > 0.9
