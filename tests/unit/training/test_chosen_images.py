"""The images of an evaluation that are worth a look."""

from __future__ import annotations

import math

import pytest

from densekit.training.chosen_images import CaseValues, by_value, evenly


def titles(count: int, images: int, *, higher: bool = True) -> list[tuple[int, str]]:
    cases = CaseValues("Dice", higher, {image: image / 10 for image in range(images)})
    return [(one.image_id, one.title.partition(":")[0]) for one in by_value(cases, count)]


def test_a_third_each_of_the_worst_the_median_and_the_best() -> None:
    expected = [
        (0, "worst"),
        (1, "worst"),
        (5, "median"),
        (6, "median"),
        (10, "best"),
        (11, "best"),
    ]
    assert titles(6, 12) == expected
    assert titles(3, 5) == [(0, "worst"), (2, "median"), (4, "best")]
    assert titles(1, 5) == [(0, "worst")]
    assert titles(2, 5) == [(0, "worst"), (4, "best")]


def test_a_low_distance_is_good() -> None:
    assert titles(3, 5, higher=False) == [(4, "worst"), (2, "median"), (0, "best")]


@pytest.mark.parametrize("images", range(8))
@pytest.mark.parametrize("count", range(1, 9))
def test_no_image_twice_and_as_many_as_there_are(count: int, images: int) -> None:
    chosen = [image for image, _ in titles(count, images)]
    assert len(set(chosen)) == len(chosen) == min(count, images)
    assert chosen == sorted(chosen)


def test_images_without_a_value_are_left_out_and_equal_ones_go_by_their_id() -> None:
    cases = CaseValues("F1", True, {3: 0.5, 2: math.nan, 1: 0.5, 0: 0.9})
    assert [(one.image_id, one.title) for one in by_value(cases, 3)] == [
        (1, "worst: F1 0.5"),
        (3, "median: F1 0.5"),
        (0, "best: F1 0.9"),
    ]
    assert by_value(CaseValues("F1", True, {0: math.nan}), 3) == []


def test_confidence_tells_equal_values_apart() -> None:
    right = {0: 0.0, 1: 0.0, 2: 1.0, 3: 1.0, 4: 1.0}
    confidence = {0: 0.5, 1: 0.9, 2: 0.9, 3: 0.3, 4: 0.6}
    chosen = by_value(CaseValues("right", True, right, confidence), 3)
    assert [one.image_id for one in chosen] == [1, 3, 2]  # surely wrong, just right, surely right


def test_at_equal_distances() -> None:
    assert [one.image_id for one in evenly(range(10, 19), 3)] == [10, 14, 18]
    assert [one.image_id for one in evenly([5], 3)] == [5]
    assert evenly([], 3) == []
