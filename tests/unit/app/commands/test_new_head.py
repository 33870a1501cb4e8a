"""`densekit new-head` writes a package that installs, composes and keeps the contract."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from densekit import plugins
from densekit.app.commands import new_head
from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse
from densekit.app.errors import UsageError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    assert new_head.main(["acme/two_words", f"output={folder}"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.ddp
def test_its_own_test_passes(written: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(written)]
    ran = subprocess.run(command, cwd=written, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 passed" in ran.stdout


def test_composes_by_name(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((written / "pyproject.toml").read_text())["project"]
    (package,) = project["entry-points"]["densekit.plugins"].values()
    monkeypatch.syspath_prepend(str(written))
    points = [EntryPoint(package, package, plugins.PLUGIN_GROUP)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    plugins.plugin_packages.cache_clear()
    try:
        cfg = compose(parse(["experiment=quickstart", "head=acme/two_words"])).cfg
        assert cfg.heads.two_words._target_ == "acme_two_words.head.TwoWords"
        with pytest.raises(UsageError, match="which exists"):
            new_head.template_values("acme/two_words")
    finally:
        plugins.plugin_packages.cache_clear()


def test_nothing_is_overwritten(written: Path) -> None:
    with pytest.raises(UsageError, match="output: expected a new or empty folder"):
        new_head.main(["other", f"output={written}"])


@pytest.mark.parametrize("name", ["Polyp", "a/b/c", "2d", "../up", "unet"])
def test_refuses_names(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        new_head.template_values(name)
