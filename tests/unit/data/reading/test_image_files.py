"""Image files below a folder."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from densekit.app.prediction.sources import find_images
from densekit.data import ImageFolder, MaskFolder, MaskList
from densekit.data.reading.files import images_below


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


@pytest.mark.parametrize(
    "suffix", ["gif", "ppm", "pgm", "pnm", "pbm", "JPG", "jfif", "webp", "jp2"]
)
def test_every_format_is_seen_by_every_reader(tmp_path, suffix):
    kinds = {"pnm": "PPM", "jfif": "JPEG", "JPG": "JPEG", "jp2": "JPEG2000", "webp": "WEBP"}
    lossless = {"lossless": True} if suffix == "webp" else {}
    mode = {"pgm": "L", "pbm": "1"}.get(suffix, "RGB")
    for folder in ("a", "masks"):
        (tmp_path / folder).mkdir()
        image = Image.new(mode if folder == "a" else "L", (5, 4))
        kind = kinds.get(suffix, "GIF" if suffix == "gif" else "PPM")
        image.save(tmp_path / folder / f"x.{suffix}", kind, **lossless)
        (tmp_path / folder / f"._x.{suffix}").write_bytes(b"")
    assert ImageFolder(tmp_path, names=["a", "masks"])[0]["image"].shape == (4, 5, 3)
    data = MaskFolder(tmp_path / "a", tmp_path / "masks", names=["no", "yes"])
    assert data[0]["mask"].tolist() == np.zeros((4, 5)).tolist()
    assert [file.name for file in find_images(str(tmp_path))[0]] == [f"x.{suffix}"] * 2


def test_names_in_both_forms_of_unicode_are_pairs(tmp_path):
    picture(tmp_path / "images" / "caf\u00e9.png")
    picture(tmp_path / "masks" / "cafe\u0301.png")
    assert len(MaskFolder(tmp_path / "images", tmp_path / "masks", names=["no", "yes"])) == 1
    (tmp_path / "list.txt").write_text("images/cafe\u0301.png masks/caf\u00e9.png\n")
    assert MaskList(tmp_path, "list.txt", names=["no", "yes"])[0]["mask"].shape == (4, 5)
