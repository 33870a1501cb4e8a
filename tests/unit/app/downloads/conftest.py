from __future__ import annotations

from collections.abc import Iterator

import pytest

from densekit.app.downloads import transfer
from tests.unit.app.downloads.server import Server, serving


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    with serving() as state:
        yield state
