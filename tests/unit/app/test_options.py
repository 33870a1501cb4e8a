"""Options of commands: letter by letter or YAML, and what their values have to name."""

from __future__ import annotations

from pathlib import Path

import pytest

from densekit.app.errors import UsageError
from densekit.app.options import existing, refuse_rest, split_options

ODD = ["a=1", "a,b", "[1]", "it's", "~/x", "a b#c"]


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
    with pytest.raises(UsageError, match="got 'tresh'; did you mean 'threshold'"):
        refuse_rest("predict", ["tresh=1"], ["threshold", "source"])


def test_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkpoint=PATH is missing"):
        existing("eval", "checkpoint", None)
    with pytest.raises(UsageError, match="nothing: no such file"):
        existing("eval", "checkpoint", str(tmp_path / "nothing"))
