"""Targets from the frames of a batch are close to those from planes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from densekit.data import Scenes

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import object_masks  # type: ignore[import-not-found] # noqa: E402


def test_targets_from_frames_lose_little() -> None:
    data, rng = Scenes("train", 6, size=(200, 260), instance_masks=True), np.random.default_rng(0)
    samples = object_masks.samples(data, 6)
    found = [iou for sample in samples for _, iou in object_masks.overlaps(sample, rng)]
    assert len(found) > 20
    assert np.mean(found) > 0.98
