"""The table of a command: its words are parsed by it, letter by letter where they are text."""

from __future__ import annotations

import re

import pytest

from densekit.app.errors import UsageError
from densekit.app.options.table import (
    Command,
    Kind,
    Option,
    choice,
    choices,
    flag,
    names,
    number,
    parse_command,
    sides,
    split_options,
    text,
    whole,
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
SOURCE = Option("source", text("PATH", "a file"), None, "what is read", required=True)
COMMAND = Command(
    name="copy",
    usage="source=PATH [key=value ...]",
    about="Copies.",
    options=(SOURCE, Option("batch", whole(1), 4, "files per step")),
    settings=(("inferer.KEY=VALUE", "an argument of the inferer"),),
)


@pytest.mark.parametrize("path", ODD)
def test_paths_are_taken_letter_by_letter(path: str) -> None:
    options, rest = split_options([f"source={path}", "other=1"], [SOURCE])
    assert options == {"source": path}
    assert rest == ["other=1"]


NO_NUMBERS = ["2024_01_02", "1e3", "010", "0x10", "on", "true", "nan", ".5", "~", "a=b", "it's"]


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_names_are_text_letter_by_letter(name: str) -> None:
    assert text("NAME").read(name) == name
    assert names().read(name) == [name]
    assert names().read(f"[{name}, a]") == [name, "a"]


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (text("NAME"), "'null'", "null"),
        (names(), "[]", []),
        (names(), "['a,b', c]", ["a,b", "c"]),
        (number(at_least=0), ".7", 0.7),
        (number(), "-1e-2", -0.01),
        (whole(1), "1e3", 1000),
        (choice(18, 34), "34", 34),
        (choices("32", "bf16"), "bf16", ["bf16"]),
        (choices("32", "bf16"), "[32,bf16]", ["32", "bf16"]),
        (flag(), "False", False),
        (sides(count=2), "[256, 448]", [256, 448]),
        (sides(), "[64,64,32]", [64, 64, 32]),
    ],
)
def test_kinds_read_their_values(kind: Kind, written: str, value: object) -> None:
    assert Option("key", kind, None, "").read(written) == value


@pytest.mark.parametrize(
    ("kind", "written", "expected"),
    [
        (number(at_least=0), "high", "a number of at least 0"),
        (number(at_least=0), "nan", "a number of at least 0"),
        (number(at_least=0), "-1", "a number of at least 0"),
        (number(), "[1]", "a number"),
        (whole(1), "1.5", "a whole number of at least 1"),
        (whole(1), "inf", "a whole number of at least 1"),
        (choice("npz", "parquet"), "csv", "one of npz, parquet"),
        (choices("32", "bf16"), "[32,fp8]", "one of 32, bf16, or a list of them"),
        (flag(), "maybe", "true or false"),
        (
            sides(count=2, at_least=32),
            "[256]",
            "[HEIGHT,WIDTH], each a whole number of at least 32",
        ),
        (sides(count=2, at_least=32), "[256,16]", "[HEIGHT,WIDTH], each a whole number"),
        (sides(), "256", "[HEIGHT,WIDTH], each a whole number of at least 1"),
    ],
)
def test_kinds_refuse_other_values(kind: Kind, written: str, expected: str) -> None:
    message = rf"^key: expected {re.escape(expected)}.*, got {re.escape(written)}$"
    with pytest.raises(UsageError, match=message):
        Option("key", kind, None, "").read(written)


def test_null_is_a_default_of_nothing() -> None:
    assert split_options(["source=null"], [SOURCE])[0] == {"source": None}
    assert Option("trust", names(), (), "").read("null") == ()
    with pytest.raises(UsageError, match="batch: expected a whole number of at least 1, got null"):
        parse_command(COMMAND, ["source=a", "batch=null"])


def test_options_have_their_defaults_and_the_last_word_counts() -> None:
    assert parse_command(COMMAND, ["source=a"]) == ({"source": "a", "batch": 4}, [])
    assert parse_command(COMMAND, ["source=a", "source=b"])[0]["source"] == "b"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "source: expected a file, got nothing; densekit copy source=PATH"),
        (["source=null"], "source: expected a file, got nothing"),
        (["sorce=a"], "densekit copy: .*did you mean 'source'"),
        (["source=a", "infere=1"], "densekit copy: .*did you mean 'inferer'"),
        (["source=a", "b"], r"densekit copy: expected key=value, got b; densekit copy source=PATH"),
    ],
)
def test_unknown_and_missing_words_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_command(COMMAND, words)


def test_words_without_a_key_are_counted() -> None:
    verify = Command("verify", "A B", "Compares.", words=("A", "B"))
    assert parse_command(verify, ["a=1.png", "b.png"])[1] == ["a=1.png", "b.png"]
    with pytest.raises(UsageError, match="densekit verify: expected A B, got a.png; densekit"):
        parse_command(verify, ["a.png"])
    with pytest.raises(UsageError, match="densekit verify: expected A B, got nothing"):
        parse_command(verify, [])
    listing = Command("heads", "", "Lists.")
    with pytest.raises(
        UsageError, match="densekit heads: expected no arguments, got x; densekit heads"
    ):
        parse_command(listing, ["x"])


def test_overrides_are_left_to_the_configuration() -> None:
    plan = Command("plan", "data=NAME", "Plans.", options=COMMAND.options[1:], overrides=True)
    assert parse_command(plan, ["data=a", "batch=2", "+b.c=1"]) == (
        {"batch": 2},
        ["data=a", "+b.c=1"],
    )


def test_options_are_considered_for_a_key_that_the_configuration_lacks() -> None:
    split = Option("split", text("NAME"), None, "what is read")
    evaluate = Command("eval", "", "Evaluates.", options=[split], overrides=True)
    message = "^densekit eval: expected one of split, .*, got 'splitt'; did you mean 'split'?"
    with pytest.raises(UsageError, match=message):
        parse_command(evaluate, ["splitt=val"])
    with pytest.raises(UsageError, match="got 'infere'; did you mean 'inferer'?"):
        parse_command(evaluate, ["infere=1"])
    words = ["seed=1", "head=unet", "+a=1", "~b", "data.x=1"]
    assert parse_command(evaluate, words)[1] == words
