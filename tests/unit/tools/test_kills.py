"""A few real kills: fresh processes, a random moment, and a resumed run equal bit for bit."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

FILE = Path(__file__).parents[3] / "tools" / "kills.py"


@pytest.fixture(scope="module")
def kills() -> Any:
    spec = importlib.util.spec_from_file_location("kills", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kills"] = module  # for its dataclass
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_run(kills: Any, tmp_path: Path) -> None:
    output = tmp_path / "kills.jsonl"
    kills.measure("both", [signal.SIGKILL, signal.SIGTERM], 1, 0, output)
    assert [line["problems"] for line in map(json.loads, output.open())] == [[], []]


def test_a_difference_of_one_bit_is_found(kills: Any) -> None:
    one = torch.tensor([1.0, 2.0])
    two = torch.nextafter(one, one + 1)
    assert not kills.equal(one, two, exact=True)
    assert kills.equal(one, two, exact=False)
    assert not kills.equal(1, None, exact=False)
    assert not kills.equal("0.5", "0.6", exact=False)
    assert kills.equal("0.5", "0.5000000001", exact=False)


def test_leaves_name_files_without_their_folder(kills: Any) -> None:
    state = {"best": {"/a/b/epoch_000.ckpt": 1.0}, "path": "/a/b/last.ckpt", "folder": "/a/b"}
    found = dict(kills.leaves(state, "x", Path("/a")))
    assert found == {"x/best/epoch_000.ckpt": 1.0, "x/path": "last.ckpt", "x/folder": ""}


def test_the_table_of_the_documentation_is_that_of_the_tool(kills: Any) -> None:
    docs = FILE.parents[1] / "docs"
    assert "\n".join(kills.table(docs / "kills.jsonl")) in (docs / "reliability.md").read_text()
