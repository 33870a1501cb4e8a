"""Identification: a gallery ranked by hand, leave-one-out, ties."""

from __future__ import annotations

import numpy as np
import pytest

from densekit.metrics import Identification


def measured(vectors, identities, gallery=None, **settings):
    metric = Identification(**settings)
    truths = [{"image_id": i, "identity": who} for i, who in enumerate(identities)]
    for truth, flag in zip(truths, gallery or [], strict=False):
        truth["gallery"] = flag
    metric.update([{"embedding": np.array(v, np.float32)} for v in vectors], truths)
    return {name: float(value) for name, value in metric.compute().items()}


ANGLES = np.radians([0, 10, 20, 30, 5, 26])
VECTORS = np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1)


def test_gallery_and_probes():
    # Gallery at 0, 10, 20, 30 degrees; probes at 5 and 26 degrees.
    figures = measured(VECTORS, [1, 2, 1, 2, 2, 9], [True] * 4 + [False] * 2, ranks=(1, 2, 3))
    # The probe of 2 at 5 degrees: 0 (as near as 10, and of another), 10, 20, 30.
    assert figures["rank_2"] == 1
    assert figures["without_mate"] == 1
    assert figures["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_average_precision_by_hand():
    # Probe at 0: entries at 10 (mate), 20 (other), 30 (mate).
    figures = measured(VECTORS[:4], [1, 1, 2, 1], [False, True, True, True])
    assert figures["map"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["rank_1"] == 1


def test_without_roles_everybody_looks_among_the_others():
    angles = np.radians([0, 10, 15, 30])
    figures = measured(np.stack([np.cos(angles), np.sin(angles)], 1), [1, 1, 2, 2])
    # 0 finds 10, and 30 finds 15; 10 and 15 find each other.
    assert figures["rank_1"] == 0.5
    assert figures["rank_5"] == 1
    assert figures["without_mate"] == 0


def test_equal_scores_do_not_flatter():
    same = [[1.0, 0.0]] * 3
    assert measured(same, [1, 2, 1])["rank_1"] == 0


def test_nobody_has_a_mate(caplog):
    figures = measured(VECTORS[:3], [1, 2, 3])
    assert np.isnan(figures["rank_1"])
    assert figures["without_mate"] == 3
    assert "no probe has its identity" in caplog.text


def test_wrong_input_is_refused():
    with pytest.raises(
        ValueError, match=r"Identification\.ranks: expected numbers of at least 1, got \[0\]"
    ):
        Identification(ranks=[0])
    metric = Identification()
    metric.update([{"embedding": np.ones(2)}], [{"image_id": 4}])
    with pytest.raises(
        ValueError, match="Identification: template 4: expected an identity, got none"
    ):
        metric.compute()
