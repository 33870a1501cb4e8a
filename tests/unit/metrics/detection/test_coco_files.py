from __future__ import annotations

import json

import numpy as np
import pytest

from densekit.metrics import evaluate_files

WHOLE = pytest.approx(1.0)  # like pycocotools', a precision of one lacks the last bit
SQUARE = [[10, 10, 60, 10, 60, 60, 10, 60]]


def ground_truth():
    return {
        "images": [{"id": 3, "height": 100, "width": 120}, {"id": 9, "height": 80, "width": 80}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": [
            {
                "id": 0,  # taken for "unmatched" by pycocotools, as many tools write it
                "image_id": 3,
                "category_id": 5,
                "bbox": [10, 10, 50, 50],
                "segmentation": SQUARE,
                "area": 2500,
                "iscrowd": 0,
            }
        ],
    }


def detection(**changes):
    entry = {"image_id": 3, "category_id": 5, "bbox": [10, 10, 50, 50], "score": 0.9} | changes
    return {key: value for key, value in entry.items() if value is not None}


@pytest.fixture
def evaluate(tmp_path):
    def run(results, annotations=None, **arguments):
        paths = tmp_path / "results.json", tmp_path / "truth.json"
        data = results, ground_truth() if annotations is None else annotations
        for path, content in zip(paths, data, strict=True):
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return evaluate_files(*paths, **arguments)

    return run


def test_boxes_and_masks(evaluate):
    figures = evaluate([detection()])
    for name in ("AP", "AP/dog", "AR1"):
        assert figures[name] == WHOLE, name
    assert np.isnan(figures["AP/cat"])
    mask = detection(segmentation=SQUARE)
    assert evaluate([mask], iou_type="segm")["AP"] == WHOLE
    assert evaluate([mask | {"bbox": None}])["AP"] == WHOLE
    runs = {"size": [100, 120], "counts": [10 * 100 + 10] + [50, 50] * 49 + [50, 100 * 120 - 5960]}
    assert evaluate([detection(segmentation=runs)], iou_type="segm")["AP75"] == WHOLE


def test_no_detections_is_zero_and_no_annotations_is_nan(evaluate, caplog):
    assert evaluate([])["AP"] == 0.0
    assert np.isnan(evaluate([detection()], ground_truth() | {"annotations": []})["AP"])
    assert "has no annotations" in caplog.text


def test_missing_area_and_crowd_have_defaults(evaluate):
    data = ground_truth()
    del data["annotations"][0]["area"], data["annotations"][0]["iscrowd"]
    assert evaluate([detection()], data)["AP_medium"] == WHOLE


def test_detections_of_unknown_categories_are_left_out_with_a_warning(evaluate, caplog):
    assert evaluate([detection(), detection(category_id=7)])["AP"] == WHOLE
    assert "1 detections left out, their category_id (7) is not one of 1, 5" in caplog.text


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (
            "[{",
            r"results\.json: expected JSON, got: Expecting",
        ),
        (
            {"annotations": []},
            r"results\.json: expected COCO results, a list of detections, got an object",
        ),
        ([detection(image_id=4)], r"results\.json: expected image ids of"),
        (
            [detection(category_id=0)],
            r"results\.json: expected category ids of the annotations \(1, 5\), got 0",
        ),
        ([detection(), 5], r"results\.json: entry 1: expected an object, got 5"),
        ([detection(score=None)], "entry 0: expected a key 'score'"),
        (
            [detection(image_id=None, image_ids=3)],
            "expected a key 'image_id', .*; did you mean 'image_ids'",
        ),
        (
            [detection(score="high")],
            r"results\.json: entry 0: score: expected int or float, got 'high'",
        ),
        (
            [detection(score=float("nan"))],
            r"results\.json: entry 0: score: expected a finite number, got nan",
        ),
        ([detection(image_id="3")], r"results\.json: entry 0: image_id: expected int, got '3'"),
        ([detection(), detection(bbox=[1, 2, 3])], r"entry 1: bbox: expected \[x, y, width, heigh"),
        (
            [detection(bbox=[5, 5, -1, 2])],
            r"results\.json: entry 0: bbox: expected a width and height of at least 0",
        ),
        ([detection(bbox=None)], "entry 0: expected a key 'bbox'"),
    ],
)
def test_bad_results_are_named(evaluate, results, message):
    with pytest.raises(ValueError, match=message):
        evaluate(results)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "expected a key 'segmentation'"),
        ([], "expected polygons or run lengths, got an empty"),
        (
            {"size": [120, 100], "counts": "a"},
            r"expected a segmentation of size \[100, 120\], got \[120, 100\]",
        ),
        ([["a", "b", "c", "d", "e", "f"]], "segmentation: expected x, y"),
    ],
)
def test_bad_masks_are_named(evaluate, segmentation, message):
    with pytest.raises(ValueError, match=f"entry 0: .*{message}"):
        evaluate([detection(segmentation=segmentation)], iou_type="segm")


def test_bad_annotations_are_named(evaluate):
    data = ground_truth()
    with pytest.raises(
        ValueError,
        match=r"truth\.json: expected COCO annotations, an object with",
    ):
        evaluate([], [])
    with pytest.raises(
        ValueError, match="expected a key 'categories', .*; did you mean 'category'"
    ):
        evaluate([], {"images": [], "category": [], "annotations": []})
    with pytest.raises(
        ValueError,
        match=r"truth\.json: annotations\[0\]: image_id: expected an image of the file, got 4",
    ):
        evaluate([], data | {"annotations": [data["annotations"][0] | {"image_id": 4}]})
    with pytest.raises(
        ValueError, match="names: expected names that differ, got more than once: cat"
    ):
        evaluate([], data | {"categories": [{"id": 1, "name": "cat"}, {"id": 5, "name": "cat"}]})
    with pytest.raises(
        ValueError, match="iou_type: expected one of bbox, segm, boundary, got 'mask'"
    ):
        evaluate([], iou_type="mask")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(
        ValueError,
        match="expected a file, got a folder",
    ):
        evaluate_files(tmp_path, tmp_path)
    with pytest.raises(ValueError, match=r"nowhere\.json: expected a readable file, got: No such"):
        evaluate_files(tmp_path / "nowhere.json", tmp_path / "nowhere.json")


@pytest.mark.parametrize("first", [1, 1726000000000000001, -(2**62), 2**70])
def test_ids_of_any_size_tell_images_and_classes_apart(evaluate, first):
    data = ground_truth()
    data["images"] = [image | {"id": first + n} for n, image in enumerate(data["images"])]
    data["categories"] = [c | {"id": first + n} for n, c in enumerate(data["categories"])]
    ids = {"image_id": first, "category_id": first + 1}
    data["annotations"][0] |= ids
    assert evaluate([detection(**ids)], data)["AP"] == WHOLE
    for key in ids:
        wrong = ids | {key: first + (key == "image_id")}
        assert evaluate([detection(**wrong)], data)["AP"] == 0.0


def test_an_id_with_a_fraction_is_whole_or_refused(evaluate):
    assert evaluate([detection(image_id=3.0)])["AP"] == WHOLE
    for number in (3.5, 2.0**60):
        with pytest.raises(ValueError, match=r"entry 0: image_id: expected a whole number"):
            evaluate([detection(image_id=number)])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_with_a_byte_order_mark(tmp_path, encoding):
    for name, content in (("d", [detection()]), ("gt", ground_truth())):
        (tmp_path / f"{name}.json").write_bytes(json.dumps(content).encode(encoding))
    assert evaluate_files(tmp_path / "d.json", tmp_path / "gt.json")["AP"] == WHOLE


POINTS = [[10, 10], [60, 10], [60, 60], [10, 60]]


@pytest.mark.parametrize("outline", [POINTS, [POINTS], SQUARE[0], SQUARE])
def test_outlines_of_points_are_polygons(evaluate, outline):
    data = ground_truth()
    data["annotations"][0]["segmentation"] = outline
    assert evaluate([detection(segmentation=SQUARE)], data, iou_type="segm")["AP"] == WHOLE


@pytest.mark.parametrize(
    "outline",
    [POINTS[:2], [[10, 10, 60, 60]], [*SQUARE, [1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [["a"] * 6]],
)
def test_outlines_that_are_no_polygons_are_refused(evaluate, outline):
    data = ground_truth()
    data["annotations"][0]["segmentation"] = outline
    with pytest.raises(
        ValueError,
        match=r"truth\.json: annotations\[0\]: segmentation: expected ",
    ):
        evaluate([], data, iou_type="segm")


@pytest.mark.parametrize("far", [2**31, -(2**31), 1e9, 1e300])
def test_a_coordinate_far_away_is_refused(evaluate, far):
    entry = detection(segmentation=[[10, 10, 60, 10, far, 60]])
    with pytest.raises(ValueError, match=r"entry 0: .*expected coordinates near the image"):
        evaluate([entry], iou_type="segm")


def test_boxes_of_turned_images_are_suspected(evaluate, caplog):
    evaluate([detection(), detection(bbox=[100, 10, 22, 30])])
    assert not caplog.records
    evaluate([detection(), detection(bbox=[10, 80, 30, 35])])  # the image is 100 high
    assert "1 of 2 boxes leave their annotated images: were these turned (EXIF)" in caplog.text
