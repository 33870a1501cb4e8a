"""LVIS's rules and boundary AP, on files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densekit.metrics import evaluate_files

WHOLE = pytest.approx(1.0)
CAT, DOG, COW = 1, 2, 3


def annotation(category, image=7, x=10):
    return {"image_id": image, "category_id": category, "bbox": [x, 10, 50, 50], "area": 2500}


def detection(category, score, image=7, x=10):
    return {"image_id": image, "category_id": category, "bbox": [x, 10, 50, 50], "score": score}


def truth(annotations, negative=(), not_exhaustive=(), **changes):
    image = {
        "id": 7,
        "height": 100,
        "width": 200,
        "neg_category_ids": list(negative),
        "not_exhaustive_category_ids": list(not_exhaustive),
    }
    names = {CAT: ("cat", "f"), DOG: ("dog", "c"), COW: ("cow", "r")}
    return {
        "images": [image | changes],
        "categories": [{"id": i, "name": n, "frequency": f} for i, (n, f) in names.items()],
        "annotations": annotations,
    }


@pytest.fixture
def evaluate(tmp_path):
    def run(results, annotations, protocol="lvis", **arguments):
        paths = tmp_path / "results.json", tmp_path / "truth.json"
        for path, content in zip(paths, (results, annotations), strict=True):
            path.write_text(json.dumps(content))
        return evaluate_files(*paths, protocol=protocol, **arguments)

    return run


def test_a_class_that_was_not_searched_counts_neither_way(evaluate):
    found = [detection(CAT, 0.5), detection(DOG, 0.9, x=100)]
    other = [annotation(CAT), annotation(DOG) | {"image_id": 8}]
    images = truth(other)
    images["images"].append(images["images"][0] | {"id": 8})
    found.append(detection(DOG, 0.3, image=8))
    assert evaluate(found, images)["APc"] == WHOLE
    images["images"][0]["neg_category_ids"] = [DOG]
    assert evaluate(found, images)["APc"] == pytest.approx(0.5)


def test_false_positives_of_a_class_that_is_not_exhaustive_do_not_count(evaluate):
    found = [detection(CAT, 0.9, x=100), detection(CAT, 0.5)]
    assert evaluate(found, truth([annotation(CAT)]))["APf"] == pytest.approx(0.5)
    assert evaluate(found, truth([annotation(CAT)], not_exhaustive=[CAT]))["APf"] == WHOLE


def test_groups_limit_and_names(evaluate):
    found = [detection(CAT, 0.9), detection(DOG, 0.8, x=100)]
    images = truth([annotation(CAT), annotation(DOG, x=100)])
    values = evaluate(found, images)
    assert list(values)[:6] == ["AP", "AP50", "AP75", "APr", "APc", "APf"]
    for name in ("APc", "APf", "AR300", "AP/dog"):
        assert values[name] == WHOLE, name
    assert np.isnan(values["APr"])
    assert evaluate(found, images, max_detections=1)["AP/dog"] == 0  # one of the image
    assert evaluate([], images)["AP"] == 0
    assert np.isnan(evaluate([], truth([]))["AP"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"neg_category_ids": None}, "image 7: neg_category_ids: expected list, got None"),
        (
            {"neg_category_ids": [9]},
            "image 7: neg_category_ids: expected categories of the file, got 9",
        ),
        ({"neg_category_ids": [[1]]}, "image 7: neg_category_ids: expected categories"),
        ({"not_exhaustive_category_ids": [9]}, "not_exhaustive_category_ids: expected categories"),
    ],
)
def test_what_lvis_needs_is_named(evaluate, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate([], truth([annotation(CAT)], **changes))


def test_frequencies_are_checked(evaluate):
    images = truth([annotation(CAT)])
    images["categories"][0]["frequency"] = "often"
    with pytest.raises(ValueError, match="frequency: expected one of r, c, f, got 'often'"):
        evaluate([], images)
    del images["categories"][0]["frequency"]
    with pytest.raises(ValueError, match="category 1: expected a key 'frequency'"):
        evaluate([], images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"protocol": "voc2007"}, "protocol: expected one of coco, voc, lvis"),
        ({"iou_type": "boundary"}, "iou_type: expected bbox or segm with protocol=lvis"),
        ({"protocol": "voc", "iou_type": "segm"}, "iou_type: expected bbox with protocol=voc"),
        ({"protocol": "voc", "max_detections": 5}, "max_detections: expected none"),
        ({"max_detections": 0}, "max_detections: expected at least 1, got 0"),
    ],
)
def test_what_a_protocol_does_not_measure_is_refused(evaluate, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate([], truth([annotation(CAT)]), **arguments)


def test_voc_measures_files_by_both_definitions(evaluate):
    found = [detection(CAT, 0.9), detection(CAT, 0.8, x=100)]
    values = evaluate(found, truth([annotation(CAT)]), protocol="voc")
    assert (values["VOC07_AP50"], values["VOC10_AP50/cat"]) == (WHOLE, WHOLE)


def square(x, y, side):
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def test_a_rim_is_stricter_than_a_large_mask(evaluate):
    shape = {"segmentation": square(10, 10, 80)}
    moved = {"segmentation": square(15, 15, 80)}
    masks = truth([annotation(CAT) | shape])
    exact, shifted = ([detection(CAT, 0.9) | one] for one in (shape, moved))
    for iou_type, found, expected in (
        ("segm", exact, 1.0),
        ("boundary", exact, 1.0),
        ("segm", shifted, 0.6),  # IoU 0.78: six thresholds
        ("boundary", shifted, 0.0),  # rims of 4 pixels, 5 pixels apart
    ):
        values = evaluate(found, masks, protocol="coco", iou_type=iou_type)
        assert values["AP"] == pytest.approx(expected), (iou_type, expected)
