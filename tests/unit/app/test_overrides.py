"""Words of the command line: quoting, sweeps, options."""

from __future__ import annotations

from pathlib import Path

import pytest

from densekit.app.errors import UsageError
from densekit.app.overrides import (
    existing,
    expand,
    is_path_key,
    parse,
    quote_path,
    refuse_rest,
    split_options,
)

ODD = [
    "/data/with space",
    "/data/a=b",
    "/data/(copy)[1]",
    "/data/~x#y&z",
    "/data/it's",
    "/data/Fotos größer/写真",
    "C:\\data\\",
    "/data/{a},b;c:d",
]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("checkpoint", True),
        ("paths.data", True),
        ("++data.bccd.train.root", True),
        ("backbone.weights", True),
        ("training.balance.weights", False),
        ("vars.images", False),
        ("data.bccd.batch_size", False),
        ("paths", False),
        ("experiment", False),
    ],
)
def test_path_keys(key: str, expected: bool) -> None:
    assert is_path_key(key) is expected


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("key", ["checkpoint", "paths.data", "+data.x.train.root"])
def test_paths_survive_the_grammar(key: str, path: str) -> None:
    (override,) = parse([f"{key}={path}"])
    assert override.value() == path


def test_null_and_quoted_values_stay_as_they_are() -> None:
    assert quote_path("resume=null") == "resume=null"
    assert quote_path("resume='a b'") == "resume='a b'"
    assert quote_path("seed=1") == "seed=1"
    assert parse(["resume=null"])[0].value() is None


def test_sweep_expands_to_every_combination() -> None:
    jobs = expand(["a=1,2", "b=choice(x,y)", "c=3"])
    assert jobs == [
        ["a=1", "b=x", "c=3"],
        ["a=1", "b=y", "c=3"],
        ["a=2", "b=x", "c=3"],
        ["a=2", "b=y", "c=3"],
    ]


def test_sweep_over_groups_lists_and_ranges() -> None:
    assert expand(["+head@heads.b=x,y"]) == [["+head@heads.b=x"], ["+head@heads.b=y"]]
    assert expand(["data=[a,b]"]) == [["data=[a,b]"]]
    assert len(expand(["seed=range(4)"])) == 4


def test_a_path_is_never_a_sweep() -> None:
    assert expand(["paths.data=/a,b"]) == [["paths.data='/a,b'"]]


@pytest.mark.parametrize("word", ["seed", "seed=[", "a b=1"])
def test_no_key_value_is_refused_by_name(word: str) -> None:
    with pytest.raises(UsageError, match="no key=value"):
        parse([word])


@pytest.mark.parametrize("path", ODD)
def test_options_take_paths_letter_by_letter(path: str) -> None:
    options, rest = split_options([f"source={path}", "other=1"], {"source": None})
    assert options == {"source": path}
    assert rest == ["other=1"]


def test_options_read_other_values_as_yaml() -> None:
    words = ["threshold=.7", "overlays=false", "trust=[a, b]", "annotations=null"]
    defaults = {"threshold": 0.5, "overlays": True, "trust": [], "annotations": "x"}
    options, _ = split_options(words, defaults)
    assert options == {
        "threshold": 0.7,
        "overlays": False,
        "trust": ["a", "b"],
        "annotations": None,
    }


def test_unknown_option_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="'tresh'.*Did you mean 'threshold'"):
        refuse_rest("predict", ["tresh=1"], ["threshold", "source"])


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint=PATH is missing"):
        existing("eval", "checkpoint", None)
    with pytest.raises(UsageError, match="nothing: no such file"):
        existing("eval", "checkpoint", str(tmp_path / "nothing"))
