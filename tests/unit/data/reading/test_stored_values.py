"""Masks as files store them: index, palette, colours, black and white, planes."""

from __future__ import annotations

import logging
from functools import partial

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from densekit.data import MaskFolder

LABELS = np.asarray([[0, 1, 2, 2], [0, 1, 1, 2], [0, 0, 0, 255]], dtype=np.uint8)
YES = LABELS == 1
RGB = np.asarray([[10, 20, 30], [200, 0, 0], [0, 0, 255]], dtype=np.uint8)
COLOURS = dict(zip(("sky", "car", "road"), RGB.tolist(), strict=True))


@pytest.fixture
def folder(tmp_path, write_image):
    """Opens a set of one image whose mask a function writes."""

    def open_(write, name="0.png", size=(3, 4), **arguments):
        write_image(tmp_path / "images" / "0.png", size)
        (tmp_path / "masks").mkdir(exist_ok=True)
        write(tmp_path / "masks" / name)
        return MaskFolder(tmp_path / "images", tmp_path / "masks", **arguments)

    return open_


def png(array, palette=None):
    def write(path):
        image = Image.fromarray(array)
        if palette is not None:
            image.putpalette(palette)
        image.save(path)

    return write


def test_index_masks_of_any_depth(folder):
    names = ["a", "b", "c"]
    np.testing.assert_array_equal(folder(png(LABELS), names=names).mask(0), LABELS)
    deep = folder(
        png(LABELS.astype(np.uint16) * 100), names={"a": 0, "b": 100, "c": 200}, ignore=[25500]
    )
    np.testing.assert_array_equal(deep.mask(0), LABELS)
    assert deep.describe()["ids"] == [0, 100, 200]


@pytest.mark.parametrize("kind", [np.int64, np.float32, np.uint16])
def test_index_masks_in_arrays(folder, kind):
    data = folder(lambda path: np.save(path, LABELS.astype(kind)), "0.npy", names=["a", "b", "c"])
    np.testing.assert_array_equal(data.mask(0), LABELS)


def test_palette_is_read_as_index(folder):
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[:3] = RGB
    data = folder(png(LABELS, palette.ravel().tolist()), names=["a", "b", "c"])
    np.testing.assert_array_equal(data.mask(0), LABELS)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_declared_colours(folder, suffix):
    colours = np.where((LABELS == 255)[..., None], 0, RGB[LABELS % 3])
    data = folder(png(colours.astype(np.uint8)), f"0.{suffix}", colours=COLOURS, ignore=[[0, 0, 0]])
    np.testing.assert_array_equal(data.mask(0), LABELS)
    assert data.describe()["ids"] == [0x0A141E, 0xC80000, 0x0000FF]


def test_declared_colours_of_a_palette_are_looked_up(folder):
    shuffled = np.asarray([2, 0, 1], dtype=np.uint8)
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[shuffled] = RGB
    index = shuffled[np.where(LABELS == 255, 0, LABELS)]
    data = folder(png(index, palette.ravel().tolist()), colours=COLOURS)
    np.testing.assert_array_equal(data.mask(0), np.where(LABELS == 255, 0, LABELS))


def test_colours_that_nobody_declared_are_listed(folder):
    colours = RGB[LABELS % 3]
    with pytest.raises(ValueError, match=r"0\.png: .* \[10, 20, 30\] \(6 pixels\).*`colours: "):
        folder(png(colours))
    with pytest.raises(
        ValueError, match=r"0\.png: expected .*car.* got \[0, 0, 255\] \(3 pixels\)"
    ):
        folder(png(colours), colours={"sky": [10, 20, 30], "car": [200, 0, 0]}).mask(0)


@pytest.mark.parametrize("white", [1, 255, 128])
@pytest.mark.parametrize("names", [["cell"], None])
def test_black_and_white_is_binary(folder, caplog, white, names):
    with caplog.at_level(logging.WARNING, "densekit.data"):
        data = folder(png(YES.astype(np.uint8) * white), names=names)
    np.testing.assert_array_equal(data.mask(0), YES)
    assert data.describe()["num_classes"] == 1
    assert data.describe()["ids"] == [white]
    assert not data.describe()["background"]
    assert len(caplog.records) == (names is None)


def test_grey_stored_as_rgb_is_grey(folder):
    grey = np.repeat(YES[:, :, None], 3, axis=2).astype(np.uint8) * 255
    np.testing.assert_array_equal(folder(png(grey), names=["cell"]).mask(0), YES)


def test_one_bit_masks(folder):
    np.testing.assert_array_equal(folder(png(YES), names=["cell"]).mask(0), YES)


def test_beside_one_and_zero_255_is_void(folder):
    mask = np.where(LABELS == 2, 0, LABELS)
    np.testing.assert_array_equal(folder(png(mask), names=["cell"]).mask(0), mask)
    np.testing.assert_array_equal(folder(png(mask), names=["rest", "cell"]).mask(0), mask)


def test_two_names_of_black_and_white(folder):
    data = folder(png(YES.astype(np.uint8) * 255), names=["background", "cell"])
    np.testing.assert_array_equal(data.mask(0), YES)
    assert data.describe() | {"ids": [0, 255], "background": True} == data.describe()


def test_the_one_class_may_be_the_black_one(folder):
    data = folder(png(YES.astype(np.uint8) * 255), names={"membrane": 0})
    np.testing.assert_array_equal(data.mask(0), ~YES)


def test_binary_of_three_values_lists_them(folder):
    with pytest.raises(ValueError, match=r"masks: expected two .* cell, .* 1 \(3 pixels\)"):
        folder(png(LABELS), names=["cell"])


@pytest.mark.parametrize("white", [1, 255])
def test_planes_are_a_class_each(folder, white):
    planes = np.stack([YES, LABELS == 2]).astype(np.uint8) * white
    for name, write in (
        ("0.tif", lambda path: tifffile.imwrite(path, planes, photometric="minisblack")),
        ("0.npy", lambda path: np.save(path, planes)),
    ):
        data = folder(write, name, names=["a", "b"])
        np.testing.assert_array_equal(data.mask(0), planes // white)
        assert data[0]["mask"].shape == (2, 3, 4)
        assert data.describe()["multilabel"]
        (data.path(0).parents[1] / "masks" / name).unlink()


def test_planes_without_names_and_with_too_few(folder, caplog):
    planes = np.stack([YES, YES, ~YES, YES, YES]).astype(np.uint8)
    stored = planes.transpose(1, 2, 0).repeat(2, 0).repeat(2, 1)  # (6, 8, 5)
    data = folder(lambda path: np.save(path, stored), "0.npy", size=(6, 8))
    assert data.names == [f"class_{i}" for i in range(5)]
    assert len(caplog.records) == 1
    with pytest.raises(
        ValueError, match=r"0\.npy: expected a mask of shape \(2, 6, 8\) .*\(5, 6, 8\)"
    ):
        folder(lambda path: None, "0.npy", size=(6, 8), names=["a", "b"]).mask(0)


def test_values_outside_the_classes_are_listed_with_counts(folder):
    data = folder(png(LABELS), names=["road", "car", "tree"], ignore=[255])
    assert data.mask(0).max() == 255
    with pytest.raises(ValueError, match=r"0\.png: expected .* 0 \(road\).* got 2 \(3 pixels\)"):
        folder(png(LABELS), names={"road": 0, "car": 1}).mask(0)


def test_negative_values_are_no_classes(folder):
    negative = LABELS.astype(np.int16) - 2
    data = folder(lambda path: np.save(path, negative), "0.npy", names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"0\.npy: .* got -2 \(5 pixels\), -1 \(3 pixels\), 253"):
        data.mask(0)


def test_jpeg_masks_say_why(folder):
    noisy = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.uint8) * 20
    data = folder(png(noisy), "0.jpg", size=(64, 64), names={"a": 0, "b": 20, "c": 40})
    with pytest.raises(ValueError, match=r"0\.jpg: expected the values .* JPEG changes values"):
        data.mask(0)


def test_broken_masks_are_refused_with_their_path(folder):
    def cut(path):
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 9, (200, 200)).astype(np.uint8))
        path.write_bytes(path.read_bytes()[:2000])

    with pytest.raises(ValueError, match=r"0\.png: expected a readable mask"):
        folder(cut, size=(200, 200), names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"0\.png: expected a readable mask"):
        folder(lambda path: path.write_text("no"), names=["a"])


def test_fractions_are_no_classes(folder):
    with pytest.raises(ValueError, match=r"0\.npy: expected whole numbers"):
        folder(lambda path: np.save(path, LABELS / 2), "0.npy")


def test_every_pixel_ignored(folder):
    data = folder(png(np.full((3, 4), 255, dtype=np.uint8)), names=["a", "b", "c"])
    assert (data.mask(0) == 255).all()
    with pytest.raises(ValueError, match=r"masks: expected .* got 0 different values"):
        folder(png(np.full((3, 4), 11, dtype=np.uint8)), ignore=[11])


def test_scanned_values_become_classes_with_one_warning(folder, caplog):
    with caplog.at_level(logging.WARNING, "densekit.data"):
        data = folder(png(np.where(LABELS == 255, 9, LABELS * 7)), ignore=[9])
    assert data.names == ["class_0", "class_7", "class_14"]
    assert data.describe()["ids"] == [0, 7, 14]
    assert len(caplog.records) == 1
    np.testing.assert_array_equal(data.mask(0), LABELS)


CLASSES = np.where(LABELS == 255, 0, LABELS)


def rgba_with_alpha(values, alpha):
    grey = Image.fromarray(values)
    return Image.merge("RGBA", [grey, grey, grey, Image.fromarray(alpha)])


@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("0.png", lambda grey, path: grey.save(path)),
        ("0.png", lambda grey, path: grey.convert("RGB").save(path)),
        ("0.png", lambda grey, path: grey.convert("RGBA").save(path)),
        ("0.png", lambda grey, path: grey.convert("LA").save(path)),
        ("0.png", lambda grey, path: grey.convert("P").save(path)),
        ("0.png", lambda grey, path: cv2.imwrite(str(path), deep(grey))),
        ("0.tif", lambda grey, path: grey.save(path)),
        ("0.tif", lambda grey, path: grey.convert("RGB").save(path)),
        ("0.tif", lambda grey, path: grey.convert("RGBA").save(path)),
        ("0.tif", lambda grey, path: tifffile.imwrite(path, deep(grey))),
        ("0.tif", lambda grey, path: tifffile.imwrite(path, deep(grey).astype(np.uint8))),
        ("0.tif", lambda grey, path: rgb_tiff(path, deep(grey).astype(np.float32))),
        ("0.tif", lambda grey, path: rgb_tiff(path, deep(grey).astype(np.uint32))),
        ("0.tif", lambda grey, path: rgb_tiff(path, np.moveaxis(deep(grey), -1, 0))),
        ("0.bmp", lambda grey, path: grey.save(path)),
        ("0.bmp", lambda grey, path: grey.convert("RGB").save(path)),
        ("0.webp", lambda grey, path: grey.save(path, lossless=True)),
        ("0.webp", lambda grey, path: grey.convert("RGBA").save(path, lossless=True)),
    ],
)
@pytest.mark.parametrize("names", [["a", "b", "c"], None])
def test_one_content_has_the_same_classes_in_every_format(folder, name, save, names):
    data = folder(lambda path: save(Image.fromarray(CLASSES), path), name, names=names)
    assert data.describe()["num_classes"] == 3
    assert not data.describe()["multilabel"]
    np.testing.assert_array_equal(data.mask(0), CLASSES)


def rgb_tiff(path, array):
    planar = "separate" if len(array) == 3 and array.shape[-1] > 3 else "contig"
    tifffile.imwrite(path, array, photometric="rgb", planarconfig=planar)


def deep(grey):
    return np.repeat(np.asarray(grey, dtype=np.uint16)[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("0.png", rgba_with_alpha(CLASSES * 0, CLASSES)),
        ("0.tif", rgba_with_alpha(CLASSES * 0, CLASSES)),
        ("0.webp", rgba_with_alpha(CLASSES * 0, CLASSES)),
        ("0.png", rgba_with_alpha(CLASSES * 0 + 255, YES.astype(np.uint8) * 255)),
        ("0.png", rgba_with_alpha(YES.astype(np.uint8), CLASSES)),
        ("0.png", rgba_with_alpha(CLASSES * 0, CLASSES).convert("LA")),
    ],
)
@pytest.mark.parametrize("arguments", [{"names": ["cell"]}, {}, {"colours": COLOURS}])
def test_masks_in_the_alpha_channel_are_refused(folder, name, image, arguments):
    with pytest.raises(ValueError, match=rf"{name}: expected a mask in .*in the alpha channel: 0"):
        folder(lambda path: image.save(path, lossless=True), name, **arguments).mask(0)


def test_alpha_that_says_what_the_colours_say_is_left_alone(folder):
    mask = rgba_with_alpha(YES.astype(np.uint8) * 255, YES.astype(np.uint8) * 255)
    np.testing.assert_array_equal(folder(png(np.asarray(mask)), names=["cell"]).mask(0), YES)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_palette_numbered_by_a_program_is_refused(folder, suffix):
    counted = Image.fromarray(YES.astype(np.uint8) * 255).quantize(2)  # white is 0, black is 1
    with pytest.raises(ValueError, match=rf"0\.{suffix}: expected a palette .* \{{0: 255, 1: 0\}}"):
        folder(counted.save, f"0.{suffix}", names=["cell"])


def test_a_palette_of_opacities_numbered_by_a_program_is_refused(folder):
    seen_through = png(2 - CLASSES, [0, 0, 0] * 3)
    data = folder(seen_through, names=["a", "b", "c"])
    np.testing.assert_array_equal(data.mask(0), 2 - CLASSES)
    index = Image.open(data.path(0).parents[1] / "masks" / "0.png")
    write = partial(index.save, transparency=bytes([255, 128, 0]))
    with pytest.raises(ValueError, match=r"0\.png: expected a palette .* \{0: 255, 1: 128, 2: 0\}"):
        folder(write, names=["a", "b", "c"])


@pytest.mark.parametrize(
    "palette", [[0, 0, 0, 255, 255, 255], [0, 0, 0, 128, 0, 0], [255, 255, 255, 128, 0, 0]]
)
def test_palettes_of_classes_are_read_as_index(folder, palette):
    data = folder(png(YES.astype(np.uint8), palette), names=["cell"])
    np.testing.assert_array_equal(data.mask(0), YES)


def test_colours_in_a_tiff_are_no_planes(folder):
    coloured = RGB[LABELS % 3]
    with pytest.raises(ValueError, match=r"0\.tif: .* got colours .* photometric=minisblack"):
        folder(lambda path: tifffile.imwrite(path, coloured), "0.tif", names=["a", "b", "c"])


def test_declared_colours_of_16_bits_are_refused(folder):
    coloured = RGB[LABELS % 3].astype(np.uint16)
    data = folder(lambda path: cv2.imwrite(str(path), coloured), colours=COLOURS)
    with pytest.raises(ValueError, match=r"0\.png: expected colours of 8 bits per channel, got 16"):
        data.mask(0)


@pytest.mark.parametrize("names", [["cell"], None, ["background", "cell"]])
def test_yes_must_be_one_value_in_all_files(folder, write_image, names):
    folder(png(YES.astype(np.uint8)), names=["cell"])
    data = folder(png(YES.astype(np.uint8)), names=["cell"])
    masks = data.path(0).parents[1] / "masks"
    write_image(data.path(0).with_name("1.png"), (3, 4))
    Image.fromarray(YES.astype(np.uint8) * 255).save(masks / "1.png")
    with pytest.raises(ValueError, match=r"1\.png: expected the values of .*0\.png, 0 and 1, got"):
        MaskFolder(data.path(0).parent, masks, names=names)
    void = MaskFolder(data.path(0).parent, masks, names=names, ignore=[255])
    assert [void.mask(i).max() for i in range(2)] == [1, 255]


@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "bmp"])
def test_colours_that_change_their_index_from_file_to_file_are_refused(folder, write_image, suffix):
    def write(path, order):
        index = Image.fromarray(np.argsort(order).astype(np.uint8)[CLASSES])
        index.putpalette(RGB[order].ravel().tolist())
        index.save(path, **({"optimize": False} if suffix == "gif" else {}))

    names = ["sky", "car", "road"]
    one = partial(write, order=[0, 1, 2])
    data = folder(one, f"0.{suffix}", names=names)
    masks = data.path(0).parents[1] / "masks"
    write_image(data.path(0).with_name("1.png"), (3, 4))
    one(masks / f"1.{suffix}")
    again = MaskFolder(data.path(0).parent, masks, names=names)
    np.testing.assert_array_equal(again.mask(1), again.mask(0))
    write(masks / f"1.{suffix}", order=[2, 0, 1])
    told = MaskFolder(data.path(0).parent, masks, colours=COLOURS)
    np.testing.assert_array_equal(told.mask(1), CLASSES)
    Image.fromarray(np.zeros_like(CLASSES)).save(masks / "2.png")  # says nothing of the others
    write_image(data.path(0).with_name("2.png"), (3, 4))
    (masks / f"0.{suffix}").rename(masks / f"3.{suffix}")
    data.path(0).rename(data.path(0).with_name("3.png"))
    with pytest.raises(
        ValueError, match=rf"3\.{suffix}: expected the colour .* as in .*1\.{suffix}"
    ):
        MaskFolder(data.path(0).parent, masks, names=names)


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_stored_values_below_zero(folder, kind, suffix):
    stored = np.where(LABELS == 255, -1, LABELS.astype(kind)).astype(kind)
    write = tifffile.imwrite if suffix == "tif" else np.save
    data = folder(
        lambda path: write(path, stored), f"0.{suffix}", names=["a", "b", "c"], ignore=[-1]
    )
    np.testing.assert_array_equal(data.mask(0), LABELS)
    named = folder(
        lambda path: write(path, stored), f"0.{suffix}", names={"x": -1, "a": 0, "b": 1, "c": 2}
    )
    np.testing.assert_array_equal(named.mask(0), np.where(LABELS == 255, 0, LABELS + 1))
    yes = folder(lambda path: write(path, np.minimum(stored, 0)), f"0.{suffix}", names={"x": 0})
    np.testing.assert_array_equal(yes.mask(0), LABELS != 255)
    unsaid = folder(lambda path: write(path, stored), f"0.{suffix}", names=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"expected the values 0 \(a\), .* got -1 \(1 pixels\)"):
        unsaid.mask(0)


@pytest.mark.parametrize("planes", [2, 3, 4])
def test_planes_within_a_page_are_all_read(folder, planes):
    one_hot = np.stack([label == LABELS % 3 for label in range(planes)], axis=-1)
    data = folder(
        lambda path: tifffile.imwrite(
            path, one_hot.astype(np.uint8), photometric="minisblack", planarconfig="contig"
        ),
        "0.tif",
        names=list("abcd"[:planes]),
    )
    np.testing.assert_array_equal(data.mask(0), np.moveaxis(one_hot, -1, 0))
