"""Words of the command line: quoting, sweeps, options."""

from __future__ import annotations

from typing import Any

import pytest

from densekit.app.config.overrides import expand, is_path_key, parse, quote
from densekit.app.errors import UsageError
from densekit.app.options.shared import CHECKPOINT
from densekit.app.options.table import split_options

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


def value_of(argument: str) -> Any:
    (word,) = parse([argument])
    return word.override.value()


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("key", ["checkpoint", "paths.data", "+data.x.train.root"])
def test_paths_survive_the_grammar(key: str, path: str) -> None:
    assert value_of(f"{key}={path}") == path


def test_null_and_quoted_values_stay_as_they_are() -> None:
    assert quote("resume=null") == "resume=null"
    assert quote("resume='a b'") == "resume='a b'"
    assert quote("seed=1") == "seed=1"
    assert value_of("resume=null") is None


def test_sweep_expands_to_every_combination() -> None:
    jobs = expand(parse(["a=1,2", "b=choice(x,y)", "c=3"], sweep=True))
    assert [job.texts for job in jobs] == [
        ["a=1", "b=x", "c=3"],
        ["a=1", "b=y", "c=3"],
        ["a=2", "b=x", "c=3"],
        ["a=2", "b=y", "c=3"],
    ]


def test_sweep_over_groups_lists_and_ranges() -> None:
    jobs = expand(parse(["+head@heads.b=x,y"], sweep=True))
    assert [job.texts for job in jobs] == [["+head@heads.b=x"], ["+head@heads.b=y"]]
    (job,) = expand(parse(["data=[a,b]"], sweep=True))
    assert job.texts == ["data=[a,b]"]
    assert len(expand(parse(["seed=range(4)"], sweep=True))) == 4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("null,IMAGENET1K_V1", [None, "IMAGENET1K_V1"]),
        ("/a=b,/it's", ["/a=b", "/it's"]),
        ("'/a,b'", ["/a,b"]),
        ("'/a,b','it\\'s'", ["/a,b", "it's"]),
        ("choice(/a(1),'/b,c')", ["/a(1)", "/b,c"]),
        ("${paths.data}/a,/b", ["${paths.data}/a", "/b"]),
    ],
)
def test_commas_part_paths_in_a_sweep_and_quotes_keep_them(value: str, expected: list[str]) -> None:
    jobs = expand(parse([f"backbone.weights={value}"], sweep=True))
    assert [job.words[0].override.value() for job in jobs] == expected


@pytest.mark.parametrize("path", [path for path in ODD if "," not in path] + ['"', "a\\'b", "é\\"])
def test_a_path_is_one_job_and_the_same_in_every_sweeper(path: str) -> None:
    word = f"checkpoint={path}"
    (job,) = expand(parse([word], sweep=True))
    assert split_options(job.texts, [CHECKPOINT])[0] == {"checkpoint": path}
    (parsed,) = parse([word], sweep=True)
    again = f"checkpoint={parsed.override.get_value_element_as_str()}"  # as sweepers hand it on
    assert split_options([again], [CHECKPOINT])[0] == {"checkpoint": path}
    assert value_of(again) == path


NO_NUMBERS = ["2024_01_02", "2024-01-02", "1e3", "010", "0x10", "on", "off", "no", "true", "1:30"]
NO_NUMBERS += ["nan", ".5", "~", "a=b", "it's", "1_000.5"]


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_names_are_text_letter_by_letter(name: str) -> None:
    for key in ("run_name", "objective", "experiment", "+head@heads.cells"):
        assert value_of(f"{key}={name}") == name
        (job,) = expand(parse([f"{key}={name}"], sweep=True))
        assert job.words[0].override.value() == name
    assert value_of(f"trust=[{name},a]") == [name, "a"]
    assert value_of(f"keep_heads={name}") == [name]


def test_several_names_are_a_sweep() -> None:
    jobs = expand(parse(["run_name=1e3,2024_01", "optimizer=glob(*)"], sweep=True))
    assert jobs[0].texts == ["run_name=1e3", "optimizer=adamw"]
    assert [job.texts[0] for job in jobs] == 2 * ["run_name=1e3"] + 2 * ["run_name=2024_01"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed", "seed: expected key=value"),
        ("seed=[", r"seed: expected a value of Hydra's grammar, got \["),
        ("a b=1", "a b: expected a value of"),
        ("heads.a.sizes[0]=[8]", r"sizes\[0\]: expected the key of a whole list.*sizes=\[\.\.\.\]"),
        ("seed=sort(a,1)", "seed: expected a value of"),
        (f"seed={'9' * 5000}", "seed: expected a value of"),
    ],
)
def test_no_key_value_is_refused_by_name(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse([word])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        (
            "seed=interval(0, 1)",
            "seed: expected a list of values, got interval.*sweeper=optuna",
        ),
        ("seed=glob(*)", "seed: expected a pattern of options of a group"),
        ("optimizer=glob(x*)", "optimizer: expected a pattern of options"),
    ],
)
def test_what_no_job_can_be_made_of_is_refused(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        expand(parse([word], sweep=True))
