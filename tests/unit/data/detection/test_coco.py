from __future__ import annotations

import json
import logging
import pickle

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from densekit.data import CocoDetection
from densekit.data.annotations.outlines import NOTHING, draw, encode


def test_ids_with_gaps_become_labels_and_stay_for_export(coco):
    data = CocoDetection(**coco([{"category_id": 7}, {"category_id": 3, "image_id": 20}]))
    assert data.describe() == {
        "names": ["cat", "dog"],
        "ids": [3, 7],
        "num_classes": 2,
        "channels": 3,
        "dtype": "uint8",
    }
    assert [data[i]["labels"].tolist() for i in range(2)] == [[1], [0]]
    assert data[1]["truth"]["image_id"] == 20


def test_given_names_set_the_order_of_labels(coco):
    data = CocoDetection(**coco([{"category_id": 7}]), names=["dog", "cat"])
    assert data[0]["labels"].tolist() == [0]
    assert data.describe()["ids"] == [7, 3]


def test_sample_has_clipped_boxes_and_untouched_truth(coco):
    data = CocoDetection(**coco([{"bbox": [50, 30, 10.5, 10.25], "area": 42.0}]))
    sample = data[0]
    assert sample["image"].shape == (40, 60, 3)
    assert sample["image"].dtype == np.uint8
    assert sample["boxes"].dtype == np.float32
    assert sample["boxes"].tolist() == [[50, 30, 60, 40]]
    assert sample["truth"]["boxes"].tolist() == [[50, 30, 60.5, 40.25]]
    assert sample["truth"]["area"].tolist() == [42.0]
    assert sample["meta"]["original_size"] == (40, 60)
    assert not data.findings.rows  # half a pixel is rounding, no defect


def test_image_without_objects_is_kept(coco):
    data = CocoDetection(**coco([{}], images=3), instance_masks=True)
    assert len(data) == 3
    assert data[2]["boxes"].shape == (0, 4)
    assert data[2]["instance_masks"].shape == (0, 40, 60)


def test_crowd_defaults_to_false_and_is_read(coco):
    data = CocoDetection(**coco([{}, {"iscrowd": 1}]))
    assert data[0]["crowd"].tolist() == [False, True]
    assert data[0]["truth"]["crowd"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("bbox", "kind", "kept"),
    [
        ([5, 5, 0, 4], "without area", 0),
        ([5, 5, -3, 4], "inverted", 0),
        ([70, 5, 5, 5], "outside", 0),
        ([55, 5, 20, 5], "clipped", 1),
    ],
)
def test_bad_box_is_counted_once_in_the_log(coco, caplog, bbox, kind, kept):
    arguments = coco([{"bbox": bbox}, {"bbox": bbox}, {"image_id": 20}])
    with caplog.at_level(logging.WARNING, "densekit.data"):
        data = CocoDetection(**arguments)
    assert len(data[0]["boxes"]) == 2 * kept
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "2 x" in message
    assert kind in message
    assert "0.png, annotation 1" in message
    with pytest.raises(ValueError, match=r"a\.json.*strict.*annotation 1"):
        CocoDetection(**arguments, strict=True)


def test_corners_given_as_bbox_are_suspected(coco, caplog):
    CocoDetection(**coco([{"bbox": [40, 20, 55, 35]}]))
    assert "corners" in caplog.text


def test_nan_box_is_refused_with_file_and_annotation(coco):
    with pytest.raises(ValueError, match=r"a\.json: 0\.png, annotation 1: expected .* finite"):
        CocoDetection(**coco([{"bbox": [float("nan"), 1, 2, 3]}]))


def test_unknown_category_is_refused_with_those_known(coco):
    with pytest.raises(
        ValueError, match=r"annotation 1: category_id: .*3 \(cat\), 7 \(dog\), got 4"
    ):
        CocoDetection(**coco([{"category_id": 4}]))


def test_unknown_name_is_refused_with_the_nearest(coco):
    with pytest.raises(ValueError, match=r"got 'dogs'; did you mean 'dog'"):
        CocoDetection(**coco([{}]), names=["cat", "dogs"])
    with pytest.raises(ValueError, match=r"annotation 1: class: expected one of dog, got 'cat'"):
        CocoDetection(**coco([{}]), names=["dog"])


def test_annotation_of_an_unknown_image_is_counted(coco):
    data = CocoDetection(**coco([{"image_id": 99}, {}]))
    assert data.findings.counts == {"annotation of an image not in the file, dropped": 1}


def test_missing_image_is_refused_with_its_path(coco, tmp_path):
    arguments = coco([{}])
    (tmp_path / "images" / "1.png").unlink()
    with pytest.raises(
        ValueError, match=r"a\.json: expected existing images, got 1 of 2 missing.*images/1\.png"
    ):
        CocoDetection(**arguments)


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', "\x00"])
def test_malformed_file_is_named(coco, tmp_path, text):
    arguments = coco([{}])
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=r"a\.json"):
        CocoDetection(**arguments)


def test_missing_file_and_folder_are_named(coco):
    arguments = coco([{}])
    with pytest.raises(ValueError, match=r"none\.json"):
        CocoDetection(**(arguments | {"annotations": "none.json"}))
    with pytest.raises(
        ValueError, match=r"expected an existing folder, got .*pictures; .* holds .*images"
    ):
        CocoDetection(**(arguments | {"images": "pictures"}))


def test_annotation_without_bbox_is_refused(coco):
    arguments = coco([{}])
    path = arguments["root"] / "a.json"
    content = json.loads(path.read_text())
    del content["annotations"][0]["bbox"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"annotation 1: expected the key 'bbox'"):
        CocoDetection(**arguments)


def test_area_that_is_null_or_left_out_is_the_box_s(coco):
    data = CocoDetection(**coco([{"area": None}, {"area": 7}, {}, {"area": 0}]))
    assert data[0]["truth"]["area"].tolist() == [200.0, 7.0, 200.0, 0.0]
    assert not data.findings.rows


@pytest.mark.parametrize("area", [-5, float("nan"), float("inf")])
def test_area_that_cannot_be_is_counted_and_the_box_s_taken(coco, area):
    data = CocoDetection(**coco([{"area": area}]))
    assert data[0]["truth"]["area"].tolist() == [200.0]
    assert data.findings.counts == {"area negative or not finite, taken from the box": 1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"area": "big"}, "area: expected a number, got 'big'"),
        ({"area": [3]}, r"area: expected a number, got \[3\]"),
        ({"iscrowd": "0"}, "iscrowd: expected 0 or 1, got '0'"),
        ({"iscrowd": [1]}, r"iscrowd: expected 0 or 1, got \[1\]"),
        ({"iscrowd": 2}, "iscrowd: expected 0 or 1, got 2"),
        ({"category_id": [3]}, r"category_id: expected a number, got \[3\]"),
        ({"category_id": "3"}, "category_id: expected a number, got '3'"),
        ({"image_id": {}}, "image_id: expected a number, got {}"),
        ({"image_id": None}, "image_id: expected a number, got None"),
        ({"bbox": None}, r"bbox: expected \[x, y, width, height\]"),
    ],
)
def test_annotation_fields_of_another_type_are_refused(coco, wrong, message):
    with pytest.raises(ValueError, match=rf"a\.json: annotation 1: {message}"):
        CocoDetection(**coco([wrong]))


def test_whole_ids_may_be_written_as_floats(coco):
    assert len(CocoDetection(**coco([{"image_id": 10.0, "category_id": 3.0}]))[0]["boxes"]) == 1


def test_crowd_that_is_null_is_none(coco):
    data = CocoDetection(**coco([{"iscrowd": None}, {"iscrowd": True}]))
    assert data[0]["crowd"].tolist() == [False, True]


@pytest.mark.parametrize(
    ("key", "record", "message"),
    [
        ("images", {"height": "40", "width": 60}, "image 10: height: expected a number, got '40'"),
        (
            "images",
            {"height": 40.5, "width": 60},
            "image 10: height: expected a whole number .* 40.5",
        ),
        (
            "images",
            {"height": float("inf"), "width": 60},
            "image 10: height: expected a whole number",
        ),
        (
            "images",
            {"height": -40, "width": 60},
            "image 10: height: expected a whole number .* -40",
        ),
        ("images", {"height": [4], "width": 60}, r"image 10: height: expected a number, got \[4\]"),
        ("images", {"file_name": 7}, "images: file_name: expected a string, got 7"),
        ("images", {"id": None}, "images: id: expected a whole number, got None"),
        ("categories", {"id": None}, "categories: id: expected a whole number, got None"),
        ("images", 3, r"images\[0\]: expected an object, got 3"),
        ("annotations", None, r"annotations\[0\]: expected an object, got None"),
        ("categories", "dog", r"categories\[0\]: expected an object, got 'dog'"),
    ],
)
def test_records_of_another_type_are_refused(coco, key, record, message):
    arguments = coco([{}])
    path = arguments["root"] / "a.json"
    content = json.loads(path.read_text())
    first = content[key][0]
    content[key][0] = first | record if isinstance(record, dict) else record
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"a\.json: {message}"):
        CocoDetection(**arguments)


def test_bad_polygon_is_dropped_and_the_box_kept(coco):
    data = CocoDetection(
        **coco([{"segmentation": [[1, 1, 5, 5]]}, {"segmentation": [[1, 1, 9, 1, 9, 9]]}]),
        instance_masks=True,
    )
    sample = data[0]
    assert len(sample["boxes"]) == 2
    assert data.findings.counts == {"outline dropped, box kept": 1}
    assert (sample["instance_masks"][0] == 255).all()  # unknown, not background
    assert set(np.unique(sample["instance_masks"][1])) == {0, 1}


def test_polygons_are_drawn_as_pycocotools_draws_them():
    polygons = [[1.5, 2.0, 30.2, 4.1, 15.0, 33.3], [40, 5, 55, 5, 55, 30, 40, 30]]
    runs = coco_mask.merge(coco_mask.frPyObjects(polygons, 40, 60))
    segment, fault = encode(polygons, (40, 60))
    assert not fault
    np.testing.assert_array_equal(draw(segment, (40, 60)), coco_mask.decode(runs))


def test_run_lengths_of_both_kinds_equal_pycocotools():
    rng = np.random.default_rng(3)
    for _ in range(20):
        mask = (rng.random((37, 53)) < rng.uniform(0, 1)).astype(np.uint8)
        packed = coco_mask.encode(np.asfortranarray(mask))
        compressed = {"size": [37, 53], "counts": packed["counts"].decode()}
        segment, fault = encode(compressed, (37, 53))
        assert not fault
        np.testing.assert_array_equal(draw(segment, (37, 53)), mask)
        plain = {"size": [37, 53], "counts": pickle.loads(segment).tolist()}
        assert encode(plain, (37, 53)) == (segment, "")


@pytest.mark.parametrize(
    "broken",
    [
        {"size": [40, 60], "counts": [5, 5]},
        {"size": [40, 60], "counts": [-5, 2405]},
        {"size": [60, 40], "counts": [2400]},
        {"size": [40, 60], "counts": "0zz~"},
        {"size": [40, 60]},
        {"counts": [2400]},
        "text",
        None,
        [[1, 2, 3]],
        [[float("nan")] * 6],
    ],
)
def test_broken_outline_is_found(broken):
    segment, fault = encode(broken, (40, 60))
    assert segment == NOTHING
    assert fault


def test_annotations_are_arrays_only(coco):
    data = CocoDetection(**coco([{"segmentation": [[1, 1, 9, 1, 9, 9]]}]), instance_masks=True)
    parts = vars(data.annotations)
    for packed in (parts.pop("paths"), parts.pop("segments")):
        assert all(isinstance(value, np.ndarray) for value in vars(packed).values())
    assert all(isinstance(value, np.ndarray) for value in parts.values())


def test_outlines_of_points_and_far_coordinates(coco):
    points = [[1, 1], [9, 1], [9, 9]]
    data = CocoDetection(
        **coco([{"segmentation": points}, {"segmentation": [sum(points, [])]}]), instance_masks=True
    )
    masks = data[0]["instance_masks"]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert masks[0].max() == 1
    far = coco([{"segmentation": [[1, 1, 9, 1, 2**31, 9]]}])
    with pytest.raises(ValueError, match=r"annotation 1: segmentation: expected coordinates near"):
        CocoDetection(**far, instance_masks=True)


@pytest.mark.parametrize("box", [[59.9999999, 2, 30, 10], [0, 2, 1e-9, 10], [5, 39.99999999, 9, 9]])
def test_a_box_too_thin_for_float32_is_dropped(coco, box):
    data = CocoDetection(**coco([{"bbox": box}, {"bbox": [1, 2, 10, 20]}]))
    assert data.findings.counts == {"box too thin for float32, dropped": 1}
    assert len(data[0]["boxes"]) == 1


def test_names_in_the_other_form_of_unicode_are_found(coco):
    arguments = coco([{}])
    for file in ("0.png", "1.png"):
        (arguments["root"] / "images" / file).rename(
            arguments["root"] / "images" / f"cafe\u0301{file}"
        )
    path = arguments["root"] / arguments["annotations"]
    path.write_text(path.read_text().replace('"file_name": "', '"file_name": "caf\u00e9'))
    assert CocoDetection(**arguments)[1]["image"].shape == (40, 60, 3)
    assert not (arguments["root"] / "images" / "caf\u00e90.png").exists()


@pytest.mark.parametrize("image_id", [1726000000000000001.0, 10.5])
def test_an_id_that_lost_digits_is_refused(coco, image_id):
    with pytest.raises(ValueError, match="annotation 1: image_id: expected a whole number"):
        CocoDetection(**coco([{"image_id": image_id}]))


def test_lvis_says_what_images_were_searched_for(coco, tmp_path):
    arguments = coco([{"category_id": 7}])
    path = tmp_path / arguments["annotations"]
    content = json.loads(path.read_text())
    for record in content["images"]:
        folder = arguments["images"]
        record["coco_url"] = f"http://images.cocodataset.org/{folder}/{record.pop('file_name')}"
        record |= {"neg_category_ids": [3], "not_exhaustive_category_ids": [7]}
    for record, frequency in zip(content["categories"], "rf", strict=True):
        record["frequency"] = frequency
    path.write_text(json.dumps(content))
    data = CocoDetection(**arguments | {"images": "."})
    assert data.describe()["frequency"] == ["f", "r"]
    truth = pickle.loads(pickle.dumps(data))[0]["truth"]
    assert truth["negative_labels"].tolist() == [0]
    assert truth["not_exhaustive_labels"].tolist() == [1]
    only = CocoDetection(**arguments | {"images": "."}, names=["dog"])
    assert only[0]["truth"]["negative_labels"].tolist() == []
    content["images"][0]["neg_category_ids"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="neg_category_ids: expected a list of category ids, got"):
        CocoDetection(**arguments | {"images": "."})
    content["images"][0]["neg_category_ids"] = []
    content["categories"][0]["frequency"] = "often"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="category 7: frequency: expected r, c or f, got 'often'"):
        CocoDetection(**arguments | {"images": "."})
