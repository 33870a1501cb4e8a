"""Image files below a folder."""

from __future__ import annotations

import numpy as np
from PIL import Image

from densekit.data import ImageFolder
from densekit.data.image_files import images_below


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 5, 3), dtype=np.uint8)).save(path)


def test_links_are_followed_once(tmp_path):
    picture(tmp_path / "a" / "in" / "x10.png")
    picture(tmp_path / "a" / "x9.png")
    picture(tmp_path / "elsewhere" / "y.png")
    picture(tmp_path / "a" / ".hidden" / "z.png")
    (tmp_path / "a" / "back").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "elsewhere")
    assert images_below(tmp_path, "a") == ["a/in/x10.png", "a/link/y.png", "a/x9.png"]


def test_a_file_has_one_key_whatever_its_root_is_called(tmp_path):
    picture(tmp_path / "data" / "a" / "x.png")
    direct = ImageFolder(tmp_path / "data", names=["a"])
    around = ImageFolder(f"{tmp_path}/data/../data", names=["a"])
    assert direct.keys.tolist() == around.keys.tolist()
