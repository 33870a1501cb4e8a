"""Plug-ins: found without being imported, composed by name, and never in the way when broken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from densekit import build
from densekit.app.compose import compose
from densekit.app.groups import options
from densekit.plugins import conf_folders, find_plugins

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "plugin_head"

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes packages look installed under the entry-point group."""

    def install(*packages: str) -> None:
        points = [EntryPoint(name, name, build.PLUGIN_GROUP) for name in packages]
        monkeypatch.setattr(build, "entry_points", lambda group: points)
        build.plugin_packages.cache_clear()

    yield install
    build.plugin_packages.cache_clear()


def test_conf_is_found_without_an_import(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "boom_of_test"
    (package / "conf").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("boom_of_test")
    assert conf_folders() == [package / "conf"]
    assert "boom_of_test" not in sys.modules


def test_missing_package_is_a_row_and_no_crash(install: Install) -> None:
    install("gone_of_test", "densekit")
    own, broken = find_plugins()
    assert "gone_of_test" in broken.error
    assert own.error == ""
    compose([])


def test_head_of_a_plugin_composes_by_name(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    install("acme_count")
    assert "acme/count" in options("head")
    cfg = compose(["experiment=quickstart", "head=acme/count"]).cfg
    assert list(cfg.heads) == ["count"]


def test_classes_of_a_plugin_are_refused_unless_it_is_installed(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    with pytest.raises(ValueError, match=r"trust=\[acme_count\]"):
        build.find_class("acme_count.head.Count")
    install("acme_count")
    assert build.find_class("acme_count.head.Count").__name__ == "Count"
