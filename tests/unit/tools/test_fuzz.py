"""Damaged files of every format, a few each; `tools/fuzz.py` reads thousands by hand."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))
import fuzz  # noqa: E402
from fuzzing.changes import TEXT  # noqa: E402


@pytest.mark.parametrize("name", fuzz.FORMATS)
def test_only_errors_that_name_the_file_come_out(name: str) -> None:
    found = [fuzz.run(name, 7, number)[:2] for number in range(8)]
    assert [(outcome, changes) for outcome, changes in found if outcome.is_fault] == []
    refused = any(outcome.kind == "refused" for outcome, _ in found)
    assert refused is not name.startswith("engine")  # a damaged engine is built anew


def test_foreign_errors_and_wrong_content_are_noticed(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise IndexError("list index out of range")

    def own(folder: Path) -> None:
        raise ValueError("7: expected 8")

    file = tmp_path / "a.txt"
    for read, kind in ((fail, "foreign"), (own, "foreign"), (lambda folder: 2, "other")):
        form = fuzz.Format(lambda folder: file, read, is_exact=True)
        assert fuzz.outcome(form, tmp_path, file, before=1).kind == kind


def test_changes_change_something_and_take_any_content() -> None:
    chosen = random.Random(0)
    for change in TEXT:
        assert isinstance(change(b"", chosen), bytes)
        assert any(change(b"a 1 b 22 c" * 9, chosen) != b"a 1 b 22 c" * 9 for _ in range(20))
