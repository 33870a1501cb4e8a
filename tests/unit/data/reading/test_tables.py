"""Tables are read with commas, semicolons or tabs between their columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from densekit.data.reading.tables import read_table


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "image,label\n1.png,a;b\n"),
        ("a.csv", 'image;label\n1.png;"a;b"\n'),
        ("a.tsv", "image\tlabel\n1.png\ta;b\n"),
    ],
)
def test_columns(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    ((where, row),) = read_table(tmp_path / name, "table", ["image", "label"])
    assert row == {"image": "1.png", "label": "a;b"}
    assert where.endswith("line 2")


def test_a_header_with_commas_may_hold_semicolons(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label (a;b)\n1.png,a\n")
    assert read_table(tmp_path / "a.csv", "table", ["label (a;b)"])[0][1]["image"] == "1.png"
