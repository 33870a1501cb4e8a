"""Images are called by their file, with its folder only where files share a name."""

from __future__ import annotations

from densekit.app.reports.names import ImageNames


def test_names() -> None:
    names = ImageNames({1: "/a/s1/1.png", 2: "/a/s2/1.png", 3: "/a/s2/2.png", 4: "", 5: "1.png"})
    assert [names.of(i) for i in (1, 2, 3, 4, 5)] == ["s1/1.png", "s2/1.png", "2.png", "4", "1.png"]
    assert names.of(3, 7) == "2.png, slice 7"
