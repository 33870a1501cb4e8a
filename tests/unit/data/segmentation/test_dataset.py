"""Data sets of semantic masks: who belongs to whom, which classes, what is refused."""

from __future__ import annotations

import logging
import pickle
import shutil

import numpy as np
import pytest
from PIL import Image

from densekit.data import (
    CocoSemantic,
    MaskFolder,
    MaskList,
    ObjectMasks,
    Scenes,
    Source,
    Split,
    SplitRule,
    VocSegmentation,
    class_frequencies,
)

SIZE = (6, 8)


def test_sample_of_a_folder(pair):
    root = pair("i/a.jpg", "m/a.png", 2)
    data = MaskFolder(root / "i", root / "m", names=["x", "y", "z"])
    sample = data[0]
    assert sample["image"].shape == (*SIZE, 3)
    assert sample["mask"].dtype == np.uint8
    assert sample["truth"]["size"] == sample["meta"]["original_size"] == SIZE
    np.testing.assert_array_equal(sample["truth"]["mask"], sample["mask"])
    assert sample["mask"][0].tolist() == [2] * 8
    assert data.sizes.tolist() == [[6, 8]]
    assert data.describe() == {
        "names": ["x", "y", "z"],
        "ids": [0, 1, 2],
        "num_classes": 3,
        "background": False,
        "multilabel": False,
        "channels": 3,
        "dtype": "uint8",
    }
    assert pickle.loads(pickle.dumps(data))[0]["mask"].tolist() == sample["mask"].tolist()


def test_folders_are_paired_by_name_with_suffixes_and_below(pair):
    for number in (10, 9, 2):
        root = pair(f"i/a/{number}_left.jpg", f"m/a/{number}_gt.png", number)
    data = MaskFolder(root / "i", root / "m", image_suffix="_left", mask_suffix="_gt")
    assert [data.path(i).name for i in range(3)] == ["2_left.jpg", "9_left.jpg", "10_left.jpg"]
    assert [data[i]["mask"][0, 0] for i in range(3)] == [1, 2, 3]  # values 0, 2, 9, 10


def test_images_and_masks_in_one_folder(pair):
    root = pair("both/a.png", "both/a_mask.png")
    data = MaskFolder(root / "both", root / "both", mask_suffix="_mask", names=["cell"])
    assert len(data) == 1
    assert data.path(0).name == "a.png"


@pytest.mark.parametrize(
    ("image", "mask", "affixes"),
    [
        ("i/img_001.jpg", "m/001_mask.png", {"image_prefix": "img_", "mask_suffix": "_mask"}),
        ("i/001.jpg", "m/mask_001.png", {"mask_prefix": "mask_"}),
        ("i/001.jpg", "i/mask_001.png", {"mask_prefix": "mask_"}),
        (
            "i/s/x-001-y.jpg",
            "m/s/x-001-z.png",
            dict.fromkeys(["image_prefix", "mask_prefix"], "x-")
            | {"image_suffix": "-y", "mask_suffix": "-z"},
        ),
    ],
)
def test_names_have_what_stands_before_and_after(pair, image, mask, affixes):
    root = pair(image, mask)
    data = MaskFolder(root / image[0], root / mask[0], names=["cell"], **affixes)
    assert len(data) == 1
    assert data.mask(0).sum() == 8
    (root / mask).rename((root / mask).with_name("other.png"))
    with pytest.raises(
        ValueError, match=rf"expected {mask.partition('/')[2].rpartition('.')[0]}\.\*"
    ):
        MaskFolder(root / image[0], root / mask[0], names=["cell"], **affixes)


@pytest.mark.parametrize("suffix", ["png", "gif", "tif", "bmp"])
def test_outside_the_region_of_interest_nothing_counts(pair, suffix):
    root = pair("i/21_training.png", "m/21_manual1.png", 255)
    inside = np.zeros(SIZE, dtype=np.uint8)
    inside[:, 2:] = 255
    (root / "fov").mkdir()
    Image.fromarray(inside).save(root / "fov" / f"21_mask.{suffix}")
    words = {"image_suffix": "_training", "mask_suffix": "_manual1", "roi_suffix": "_mask"}
    data = MaskFolder(root / "i", root / "m", roi=root / "fov", names=["vessel"], **words)
    mask = data[0]["mask"]
    assert (mask[:, :2] == 255).all()
    assert mask[:, 2:].sum() == 6
    np.testing.assert_array_equal(data[0]["truth"]["mask"], mask)
    several = MaskFolder(root / "i", {"a": root / "m", "b": root / "m"}, roi=root / "fov", **words)
    assert (several.mask(0)[:, :, :2] == 255).all()
    assert several.mask(0)[:, :, 2:].max() == 1
    assert (root / "fov" / f"21_mask.{suffix}") in several.origin(0)[0]


def test_regions_of_interest_that_do_not_fit(pair):
    root = pair("i/a.png", "m/a.png")
    pair("i/a.png", "fov/a.png", size=(6, 9))
    with pytest.raises(ValueError, match=r"fov/a\.png: expected .* 6 x 8 of .*i/a\.png, got 6 x 9"):
        MaskFolder(root / "i", root / "m", roi=root / "fov", names=["vessel"])
    (root / "fov" / "a.png").rename(root / "fov" / "b.png")
    with pytest.raises(ValueError, match=r"fov: expected a\.\* .*; 1 of 1 images have no roi"):
        MaskFolder(root / "i", root / "m", roi=root / "fov", names=["vessel"])
    with pytest.raises(ValueError, match=r"MaskFolder\.roi: expected an existing folder"):
        MaskFolder(root / "i", root / "m", roi=root / "fo", names=["vessel"])


def test_a_file_an_object_is_their_union(pair):
    root = pair("s/n1/images/n1.png", "s/n1/masks/b.png", 255)
    other = np.zeros(SIZE, dtype=np.uint8)
    other[3:, 3:] = 1
    Image.fromarray(other).convert("RGBA").save(root / "s" / "n1" / "masks" / "c.png")
    pair("s/n2/images/n2.png", "s/n2/masks/a.png", 0)
    (root / "s" / "n2" / "masks" / "a.png").unlink()
    data = ObjectMasks(root / "s", name="nucleus")
    assert [data.mask(i).sum() for i in range(2)] == [8 + 15, 0]
    assert data.describe() | {"names": ["nucleus"], "num_classes": 1} == data.describe()
    assert pickle.loads(pickle.dumps(data))[0]["mask"].shape == SIZE
    assert len(data.origin(0)[0]) == 3
    assert len(Split(data, "train", SplitRule(every=2))) == 1
    assert Source(train=data).describe()["names"] == ["nucleus"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda n: (n / "masks" / "a.png").write_bytes(b"no"), r"a\.png: expected a readable mask"),
        (lambda n: (n / "images" / "n1.png").unlink(), r"n1/images: expected one image, got 0"),
        (
            lambda n: shutil.copy(n / "images/n1.png", n / "images/o.png"),
            "expected one image, got 2",
        ),
        (
            lambda n: shutil.rmtree(n / "masks"),
            r"ObjectMasks: expected an existing folder, got .*n1/masks",
        ),
        (
            lambda n: Image.fromarray(np.arange(48, dtype=np.uint8).reshape(SIZE)).save(
                n / "masks" / "a.png"
            ),
            r"masks/a\.png: expected one object",
        ),
    ],
)
def test_broken_folders_of_objects(pair, change, message):
    root = pair("s/n1/images/n1.png", "s/n1/masks/a.png", 255)
    change(root / "s" / "n1")
    with pytest.raises(ValueError, match=message):
        ObjectMasks(root / "s").mask(0)


def test_image_without_mask_is_refused_and_the_reverse_said(pair, caplog):
    root = pair("i/frame_1.png", "m/frame_1.png")
    pair("i/frame_2.png", "m/frame_02.png")
    with pytest.raises(ValueError, match=r"i/frame_2\.png, got .*'frame_02'\?; 1 of 2 images"):
        MaskFolder(root / "i", root / "m", names=["cell"])
    (root / "i" / "frame_2.png").unlink()
    with caplog.at_level(logging.WARNING, "densekit.data"):
        assert len(MaskFolder(root / "i", root / "m", names=["cell"])) == 1
    assert "frame_02.png" in caplog.text


def test_two_images_of_one_name_are_refused(pair, write_image):
    root = pair("i/a.png", "m/a.png")
    write_image(root / "i" / "a.jpg", SIZE)
    with pytest.raises(ValueError, match=r"one file per name, got .*a\.jpg and .*a\.png"):
        MaskFolder(root / "i", root / "m", names=["cell"])


def test_sizes_must_agree_and_both_files_are_named(pair):
    root = pair("i/a.png", "m/a.png", size=(6, 9))
    with pytest.raises(ValueError, match=r"m/a\.png: expected .* 6 x 8 of .*i/a\.png, got 6 x 9"):
        MaskFolder(root / "i", root / "m", names=["cell"])


@pytest.mark.parametrize("size", [(6, 8), (8, 6)])
def test_the_mask_decides_the_orientation(pair, size):
    root = pair("i/a.jpg", "m/a.png", size=size)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE[::-1]).save(root / "i" / "a.jpg", exif=exif)
    sample = MaskFolder(root / "i", root / "m", names=["cell"])[0]
    assert sample["image"].shape[:2] == sample["mask"].shape == size


def test_missing_folders_and_empty_ones(pair):
    root = pair("i/a.png", "m/a.png")
    with pytest.raises(
        ValueError, match=r"MaskFolder\.masks: expected an existing folder, got .*mm; .* holds i, m"
    ):
        MaskFolder(root / "i", root / "mm")
    with pytest.raises(ValueError, match=r"expected images \*_x\.\* in .*, got none"):
        MaskFolder(root / "i", root / "m", image_suffix="_x")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("a.txt", "i/a.png m/a.png\n\n"),
        ("a.txt", "i/a.png, m/a.png"),
        ("a.txt", "i/a.png\tm/a.png"),
        ("a.csv", "patient,mask,image\n7,m/a.png,i/a.png\n"),
        ("a.tsv", "image\tmask\ni/a.png\tm/a.png\n"),
    ],
)
def test_lists_and_tables(pair, file, text):
    root = pair("i/a.png", "m/a.png")
    (root / file).write_text(text)
    data = MaskList(root, file, names=["cell"])
    assert class_frequencies(data) == {"background": 40, "cell": 8}


def test_table_with_a_column_a_class(pair):
    root = pair("i/a.png", "m/liver.png")
    (root / "a.csv").write_text("image,liver,tumour\ni/a.png,m/liver.png,\n")
    data = MaskList(root, "a.csv", names=["liver", "tumour"])
    assert data.mask(0).sum(axis=(1, 2)).tolist() == [8, 0]
    with pytest.raises(ValueError, match=r"a\.csv: expected a column 'mask', got image, liver"):
        MaskList(root, "a.csv")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.txt", "i/a.png", r"a\.txt, line 1: expected an image and a mask, got 'i/a\.png'"),
        ("a.txt", "", "expected pairs of image and mask, got none"),
        (
            "a.txt",
            "i/a.png m/b.png",
            r"a\.txt: expected existing masks, got 1 of 1 missing .*m/b\.png",
        ),
        (
            "a.txt",
            "i/b.png m/a.png",
            r"a\.txt: expected existing images, got 1 of 1 missing .*i/b\.png",
        ),
        (
            "a.csv",
            "image,mask\ni/a.png,\n",
            r"a\.csv, line 2: expected a value of 'mask', got an empty",
        ),
        (
            "b.txt",
            "",
            r"MaskList\.list_file: expected an existing file, got .*a\.txt; did you mean 'b\.txt'",
        ),
    ],
)
def test_bad_lists(pair, file, text, message):
    root = pair("i/a.png", "m/a.png")
    (root / file).write_text(text)
    with pytest.raises(ValueError, match=message):
        MaskList(root, file.replace("b.txt", "a.txt"), names=["cell"])


def test_voc_layout(pair):
    root = pair("JPEGImages/x.jpg", "SegmentationClass/x.png", 15)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("x\n")
    data = VocSegmentation(root, "train")
    assert data.describe() | {"num_classes": 21, "background": True} == data.describe()
    assert class_frequencies(data)["person"] == 8
    with pytest.raises(ValueError, match=r"VocSegmentation\.split: .*trian\.txt.*'train'"):
        VocSegmentation(root, "trian")
    (root / "ImageSets/Segmentation/train.txt").write_text("x\ny\n")
    with pytest.raises(ValueError, match=r"expected existing images, got 1 of 2 missing .*y\.jpg"):
        VocSegmentation(root, "train")


def box(x, y, width, height):
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def test_coco_small_over_large_crowd_ignored(coco):
    counts = [40 * 50, 40 * 5, 40 * 5]  # columns 50 to 54
    large = {"area": 900, "segmentation": box(0, 0, 30, 30), "category_id": 7}
    small = {"area": 100, "segmentation": box(10, 10, 10, 10), "category_id": 3}
    crowd = {"iscrowd": 1, "segmentation": {"size": [40, 60], "counts": counts}}
    broken = {"bbox": [40, 30, 5, 5], "segmentation": []}
    where = coco([small, large, crowd, broken])
    data = CocoSemantic(**where)
    assert data.describe()["names"] == ["background", "cat", "dog"]
    assert data.describe()["ids"] == [0, 3, 7]
    mask = data.mask(0)
    assert [mask[y, x] for y, x in ((0, 0), (15, 15), (35, 5), (5, 52), (32, 42))] == [
        2,
        1,
        0,
        255,
        255,
    ]
    assert (mask == 255).sum() == 225
    assert (data.mask(1) == 0).all()
    assert data[0]["truth"]["image_id"] == 10
    only = CocoSemantic(**where, names=["dog"])
    assert np.unique(only.mask(0)).tolist() == [0, 1]
    assert (only.mask(0) == 1).sum() == 900
    with pytest.raises(
        ValueError,
        match=r"CocoSemantic\.names: expected one of cat, dog, got 'catt'; did you mean 'cat'",
    ):
        CocoSemantic(**where, names=["catt"])


def test_coco_category_called_background_is_the_background(coco):
    where = coco([{"segmentation": box(0, 0, 9, 9), "category_id": 7}])
    path = where["root"] / where["annotations"]
    path.write_text(path.read_text().replace("dog", "Background"))
    data = CocoSemantic(**where)
    assert data.names == ["background", "cat"]
    assert (data.mask(0) == 0).all()


def test_frequencies_of_other_data_sets(pair):
    root = pair("i/a.png", "m/a.png", 255)
    data = MaskFolder(root / "i", root / "m", names=["a", "b", "c"])
    assert class_frequencies(data) == {"a": 40, "b": 0, "c": 0}
    with pytest.raises(ValueError, match=r"scenes/train/000000.png: expected a mask, got \["):
        class_frequencies(Scenes(length=1))


def test_splits_must_agree_on_the_classes(pair):
    root = pair("train/a.png", "trainmask/a.png", 2)
    pair("val/a.png", "valmask/a.png", 3)
    train, val = (MaskFolder(root / s, root / f"{s}mask", names=None) for s in ("train", "val"))
    with pytest.raises(ValueError, match="expected the ids of"):
        Source(train=train, val=val)
