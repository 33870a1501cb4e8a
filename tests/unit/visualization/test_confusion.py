from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from densekit.visualization.confusion import draw_confusion


@pytest.mark.parametrize("classes", [3, 30, 50])
def test_confusion_matrices(classes: int, tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(0, 9, (classes, classes))
    counts[1] = 0  # a class without an image
    draw_confusion(counts, [f"class {n}" for n in range(classes)], tmp_path / "new" / "c.png")
    with Image.open(tmp_path / "new" / "c.png") as picture:
        assert min(picture.size) > 300
