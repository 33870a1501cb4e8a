"""Messages for names that are not known have one form."""

from __future__ import annotations

import pytest

from densekit._names import check_keys, choose, nearest, unknown


@pytest.mark.parametrize(
    ("name", "accepted", "message"),
    [
        (
            "reznet",
            ["resnet", "vgg"],
            "k: expected one of resnet, vgg, got 'reznet'; did you mean 'resnet'?",
        ),
        (
            "RESNET",
            ["resnet", "vgg"],
            "k: expected one of resnet, vgg, got 'RESNET'; did you mean 'resnet'?",
        ),
        ("zzz", ["resnet", "vgg"], "k: expected one of resnet, vgg, got 'zzz'"),
        (None, ["resnet"], "k: expected one of resnet, got None"),
        ("zzz", [], "k: expected nothing, got 'zzz'"),
    ],
)
def test_unknown_names_what_is_accepted_and_the_nearest(name, accepted, message):
    assert unknown("k", name, accepted) == message


def test_a_long_list_is_cut():
    message = unknown("k", "n7x", (f"n{number}" for number in range(100)))
    assert "n19, ... (100 in all), got 'n7x'; did you mean 'n7" in message
    assert "n20," not in message


def test_choose_and_check_keys_refuse_with_that_message():
    assert choose("k", "a", {"a": 1}) == 1
    with pytest.raises(
        ValueError, match="^k: expected one of alpha, got 'alpa'; did you mean 'alpha'"
    ):
        choose("k", "alpa", {"alpha": 1})
    check_keys("k", {"a": 1}, ["a", "b"])
    with pytest.raises(ValueError, match="^k.alpa: expected one of alpha, b, got 'alpa'; did"):
        check_keys("k", ["alpha", "alpa"], ["alpha", "b"])


def test_nearest_is_empty_where_nothing_is_alike():
    assert nearest("zzz", ["resnet"]) == ""
