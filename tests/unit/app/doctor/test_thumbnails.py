"""Thumbnails: boxes are drawn where they are, whatever boxes there are."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from densekit.app.doctor.thumbnails import SIDE, thumbnail
from tests.unit.app.doctor import small_sets as sets


def _shown(file, box=None):
    head, _, content = thumbnail(file, box).partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).astype(int)


def _drawn(image):
    """Where the colour of boxes is."""
    red, green, blue = np.moveaxis(image, -1, 0)
    ys, xs = np.nonzero((red > 180) & (green < 110) & (blue > 140))
    return (xs.min(), ys.min(), xs.max(), ys.max()) if len(xs) else None


def test_a_box_is_drawn(tmp_path):
    file = sets.write(tmp_path / "a.png", np.full((100, 100, 3), 90, np.uint8))
    assert _drawn(_shown(file)) is None
    image = _shown(file, (40, 30, 60, 50))
    assert max(image.shape) == SIDE
    # Of 100 pixels, 80 are shown: from 0 and from 10 on, each 2 pixels large.
    scale = image.shape[0] / 90
    assert _drawn(image) == pytest.approx([40 * scale, 30 * scale, 60 * scale, 50 * scale], abs=4)


@pytest.mark.parametrize(
    "box", [(60, 50, 40, 30), (-1e30, 5, 1e30, 9), (500, 500, 600, 600), (3, 3, 3, 3)]
)
def test_any_box_is_shown(box, tmp_path):
    file = sets.write(tmp_path / "a.png", sets.pixels(0))
    assert max(_shown(file, box).shape) == SIDE


def test_what_is_no_image_is_not_shown(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    assert thumbnail(tmp_path / "a.png") == ""
