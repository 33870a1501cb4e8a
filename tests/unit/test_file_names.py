"""Names that become files and folders: of runs and data sets."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from densekit._names import is_file_name
from densekit.app.config.data_checks import check_heads
from densekit.app.errors import UsageError
from densekit.app.run.folder import checked_name

ODD = ("", ".", "..", "../x", "/etc", "a/b", "a\\b", "a\0", "a\nb", "a\tb", "\x1b[31m", "x" * 300)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_refused(name: str) -> None:
    assert not is_file_name(name)
    with pytest.raises(UsageError, match="run_name: expected the name of one folder"):
        checked_name(name)
    with pytest.raises(UsageError, match="data: expected names of at most 100 characters"):
        check_heads({name: SimpleNamespace(heads=["a"])}, {"a": None})


@pytest.mark.parametrize("name", ["a", "..a", "a b", "ä漢字", "[a]", "-a", "x" * 255])
def test_other_names_are_not(name: str) -> None:
    assert is_file_name(name)
    assert checked_name(name) == name
