"""The folders of data say where to look: the docstring of each names its files."""

from __future__ import annotations

from pathlib import Path

import pytest

import densekit.data

DATA = Path(densekit.data.__path__[0])
ROOMS = sorted(path.parent for path in DATA.rglob("__init__.py"))


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_docstring_names_every_file_and_folder(room: Path) -> None:
    text = (room / "__init__.py").read_text().split('"""')[1]
    inside = {path.stem for path in room.iterdir() if path.suffix == ".py"} - {"__init__"}
    inside |= {path.parent.name for path in room.glob("*/__init__.py")}
    assert {name for name in inside if f"`{name}`" not in text} == set()
