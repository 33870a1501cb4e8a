"""Values of settings that take text alone."""

from __future__ import annotations

from typing import Any

import pytest

from densekit.app.config.overrides import parse
from densekit.app.config.quoting import as_text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("adam", "adam"),
        ("1e3", "1e3"),
        ("true", "true"),
        ("null", None),
        ("2024_01", "2024_01"),
        ("'1 e'", "1 e"),
        ("[1,on,'a,b',null]", ["1", "on", "a,b", None]),
        ("[[1],a]", [["1"], "a"]),
        (r"[a\,b]", ["a,b"]),
        ("[]", []),
        ("${vars.x}", "${vars.x}"),
        ("{a:1}", {"a": 1}),
    ],
)
def test_names_stay_as_they_were_typed(typed: str, expected: Any) -> None:
    (word,) = parse([f"backbone.kind={typed}"])
    assert as_text(word.written, word.override.value()) == expected
