from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from densekit.data import Split, SplitRule, YoloDetection

CONFIG = "train: images/train\nval: images/val\nnames: {0: cat, 2: dog, 1: pig}\n"
NESTED = "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: [cat, 'no']\n"  # Roboflow


@pytest.fixture
def yolo(tmp_path, write_image):
    """Writes images of 40x60 and label files; None leaves the label file out."""

    def write(*texts: str | None, config: str = CONFIG, images: str = "images/train") -> Path:
        labels = images.replace("images", "labels")
        (tmp_path / labels).mkdir(parents=True)
        (tmp_path / "data.yaml").write_text(config)
        for number, text in enumerate(texts):
            write_image(tmp_path / images / f"{number}.jpg")
            if text is not None:
                (tmp_path / labels / f"{number}.txt").write_bytes(text.encode())
        return tmp_path

    return write


def boxes(root, **settings):
    return YoloDetection(root, "train", **settings)[0]["boxes"].tolist()


def test_centre_and_size_become_corners_in_pixels(yolo):
    data = YoloDetection(yolo("2 0.5 0.25 0.5 0.5\n0 .1 .5 .1 .2"), "train")
    assert data[0]["boxes"].tolist() == [[15, 0, 45, 20], [3, 16, 9, 24]]
    assert data[0]["labels"].tolist() == [2, 0]
    assert data[0]["truth"]["area"].tolist() == pytest.approx([600, 48])
    assert (data.names, data.ids) == (["cat", "pig", "dog"], [0, 1, 2])
    assert data[0]["meta"]["original_size"] == (40, 60)


def test_polygon_is_enclosed_by_its_box_and_drawn(yolo):
    row = "0 .25 .25 .75 .25 .75 .75 .25 .75"
    root = yolo(f"{row}\n2 .5 .5 .2 .2", row + " .9")
    data = YoloDetection(root, "train", instance_masks=True)
    assert data[0]["boxes"][0].tolist() == data[1]["boxes"][0].tolist() == [15, 10, 45, 30]
    assert data[0]["truth"]["area"][0] == 30 * 20
    drawn, without = data[0]["instance_masks"]
    assert drawn.sum() == 30 * 20
    assert drawn[10:30, 15:45].all()
    assert (without == 255).all()  # a box alone says nothing about the mask
    assert data.findings.counts == {"box without a polygon, its mask is ignored": 1}
    assert YoloDetection(root, "train").findings.counts == {}


def test_confidence_of_a_prediction_is_left_out(yolo):
    assert boxes(yolo("0 .5 .5 .5 .5 .875")) == [[15, 10, 45, 30]]


@pytest.mark.parametrize(
    "text", ["\ufeff0 .5 .5 .5 .5", "0 .5\t.5 .5  .5\r\n\r\n \n", "0.0 .5 .5 .5 .5"]
)
def test_byte_order_mark_blank_lines_and_line_ends(yolo, text):
    assert boxes(yolo(text)) == [[15, 10, 45, 30]]


def test_image_without_label_file_or_with_an_empty_one_has_no_objects(yolo):
    data = YoloDetection(yolo("0 .5 .5 .5 .5", None, ""), "train")
    assert [len(data[index]["boxes"]) for index in range(3)] == [1, 0, 0]


def test_no_label_file_at_all_is_refused_with_the_place_looked_at(yolo):
    with pytest.raises(
        ValueError, match=r"expected label files, got none for 1 .*labels/train/0\.txt"
    ):
        YoloDetection(yolo(None), "train")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("0 .5 .5 .5", r"expected class, x, y, width and height.* got 4 values"),
        ("0 .5 .5 .5 nan", "expected finite numbers, got nan"),
        ("0 .5 inf .5 .5", "expected finite numbers, got inf"),
        ("cat .5 .5 .5 .5", "expected numbers, got cat"),
        ("0,.5,.5,.5,.5", "expected numbers"),
        ("3 .5 .5 .5 .5", r"class: expected a number from 0 \(cat\) to 2 \(dog\), got 3"),
        ("-1 .5 .5 .5 .5", "class: expected a number from 0"),
        ("0.5 .5 .5 .5 .5", r"class: expected a number .* got 0\.5"),
        ("0 320 240 50 60", "expected coordinates relative to the image, 0 to 1, got 320"),
    ],
)
def test_bad_row_is_refused_with_file_and_line(yolo, row, message):
    with pytest.raises(ValueError, match=rf"0\.txt, line 2: {message}"):
        YoloDetection(yolo(f"0 .5 .5 .5 .5\n{row}"), "train")


def test_defects_are_counted_or_refused(yolo):
    rows = ["0 .5 .5 .5 .5"] * 2 + [
        "0 .5 .5 0 .5",
        "0 1.5 .5 .2 .2",
        "0 1 .5 .5 .5",
        "0 .5 .5 -.1 .1",
    ]
    root = yolo("\n".join(rows))
    data = YoloDetection(root, "train")
    assert data.findings.counts == {
        "row repeated, dropped": 1,
        "box inverted or without area, dropped": 2,
        "box outside its image, dropped": 1,
        "box clipped to its image": 1,
    }
    assert data[0]["boxes"].tolist() == [[15, 10, 45, 30], [45, 10, 60, 30]]
    with pytest.raises(ValueError, match=r"strict.*row repeated.*0\.txt, line 2"):
        YoloDetection(root, "train", strict=True)


def test_values_are_of_the_image_as_it_is_displayed(yolo, write_image):
    root = yolo("0 .5 .25 1 .5")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    write_image(root / "images/train/0.jpg", exif=exif)
    sample = YoloDetection(root, "train")[0]
    assert sample["image"].shape == (60, 40, 3)
    assert sample["boxes"].tolist() == [[0, 0, 40, 30]]


def test_roboflow_writes_paths_from_elsewhere_and_words_that_yaml_takes_for_others(yolo):
    data = YoloDetection(yolo("1 .5 .5 .5 .5", config=NESTED, images="train/images"), "train")
    assert data.names == ["cat", "no"]
    assert len(data[0]["boxes"]) == 1


def test_labels_beside_the_images_with_a_file_of_classes(tmp_path, write_image):
    for number in range(10):
        write_image(tmp_path / f"{number}.JPG", format="jpeg")
        (tmp_path / f"{number}.txt").write_text("1 .5 .5 .5 .5")
    (tmp_path / "classes.txt").write_text("cat\ndog\n\n")
    data = YoloDetection(tmp_path, images=".")
    assert data.names == ["cat", "dog"]
    assert len(Split(data, "train", SplitRule(every=5))) == 8


def test_classes_that_no_file_names_are_numbered(tmp_path, write_image, caplog):
    write_image(tmp_path / "images/a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("2 .5 .5 .5 .5")
    assert YoloDetection(tmp_path).names == ["class_0", "class_1", "class_2"]
    assert "no file names the classes" in caplog.text
    assert YoloDetection(tmp_path, names=["a", "b", "c"]).names == ["a", "b", "c"]


def test_two_images_of_one_name_are_refused(yolo, write_image):
    root = yolo("0 .5 .5 .5 .5")
    write_image(root / "images/train/0.png")
    with pytest.raises(ValueError, match=r"0\.txt: expected one image of this name, got .*0\.jpg"):
        YoloDetection(root, "train")
