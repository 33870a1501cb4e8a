from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.visualization.curves import draw_curves


@pytest.mark.parametrize("points", [1, 2])
def test_curves_show_a_single_point(tmp_path: Path, points: int) -> None:
    shown = {"train/loss": [(step, 1.5) for step in range(points)]}
    draw_curves({"loss": shown}, tmp_path / "curves.png")
    inside = np.asarray(Image.open(tmp_path / "curves.png").convert("RGB")).astype(int)[:, :780]
    assert (np.ptp(inside, axis=2) > 60).sum() > 5  # coloured, unlike axes and grid


def test_panels_without_a_point_are_left_out(tmp_path: Path) -> None:
    full = {"loss": {"train/loss": [(1, 2.0)]}, "learning rate": {"lr": [(1, 0.1)]}}
    draw_curves(full, tmp_path / "new" / "full.png")
    draw_curves({**full, "metric": {}}, tmp_path / "new" / "empty.png")
    pictures = [
        Image.open(tmp_path / "new" / f"{name}.png").convert("RGB") for name in ("full", "empty")
    ]
    assert pictures[0].tobytes() == pictures[1].tobytes()
