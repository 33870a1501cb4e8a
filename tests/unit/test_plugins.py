"""Plug-ins: found without being imported, composed by name, and never in the way when broken."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from densekit import build, plugins
from densekit.app.commands import LISTS, listing
from densekit.app.config.compose import compose
from densekit.app.config.groups import options
from densekit.app.config.overrides import parse
from densekit.app.errors import UsageError
from densekit.plugins import conf_folders, find_plugins

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "plugin_head"

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Makes packages look installed under the entry-point group."""

    def install(*packages: str) -> None:
        points = [EntryPoint(name, name, plugins.PLUGIN_GROUP) for name in packages]
        monkeypatch.setattr(plugins, "entry_points", lambda group: points)
        plugins.plugin_packages.cache_clear()

    yield install
    plugins.plugin_packages.cache_clear()


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
    compose(parse([]))


def test_head_of_a_plugin_composes_by_name(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    install("acme_centernet")
    assert "acme/centernet" in options("head")
    cfg = compose(parse(["experiment=quickstart", "head=acme/centernet"])).cfg
    assert list(cfg.heads) == ["detection"]


def test_classes_of_a_plugin_are_refused_unless_it_is_installed(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    install()  # whatever is installed where the tests run
    with pytest.raises(ValueError, match=r"trust=\[acme_centernet\]"):
        build.find_class("acme_centernet.head.CenterNet")
    install("acme_centernet")
    assert build.find_class("acme_centernet.head.CenterNet").__name__ == "CenterNet"


@pytest.mark.parametrize("command", LISTS)
def test_lists_what_there_is(
    command: str,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    install()
    assert listing.main(command, []) == 0
    printed = capsys.readouterr().out
    for option in options(LISTS[command]):
        assert option in printed, option


def test_lists_a_plugin_beside_a_broken_one(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.syspath_prepend(str(EXAMPLE))
    install("acme_centernet", "gone_of_test")
    assert listing.main("heads", []) == 1
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert "acme_centernet" in rows["acme/centernet"]
    assert "boxes" in rows["acme/centernet"]
    assert "c2, c5" in rows["deeplabv3plus"]
    assert "gone_of_test" in printed.splitlines()[-1]


def test_head_that_cannot_be_built_is_named(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "bad_of_test"
    (package / "conf" / "head").mkdir(parents=True)
    (package / "__init__.py").write_text("CONTRACT = 1\nraise RuntimeError('no licence')\n")
    (package / "conf" / "head" / "bad.yaml").write_text("_target_: bad_of_test.Head\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("bad_of_test")
    rows, broken = listing._rows("head")
    assert {row["name"] for row in rows} >= {"bad", "unet"}
    assert len(broken) == 1
    assert "head=bad of bad_of_test" in broken[0]
    assert "no licence" in broken[0]


def test_two_plugins_of_one_name_are_refused(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("one_of_test", "two_of_test"):
        (tmp_path / package / "conf" / "head").mkdir(parents=True)
        (tmp_path / package / "__init__.py").write_text("CONTRACT = 1\n")
        (tmp_path / package / "conf" / "head" / "same.yaml").write_text("_target_: x.Y\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("one_of_test", "two_of_test")
    with pytest.raises(UsageError, match="same: expected one plug-in .*one_of_test.*two_of_test"):
        compose(parse(["head=same"]))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("CONTRACT = 2", "expected a plug-in for contract 1, got 2; upgrade densekit"),
        ("CONTRACT = 0", "expected a plug-in for contract 1, got 0; upgrade the plug-in"),
        ("", "expected CONTRACT = 1 in .*__init__.py, got nothing"),
        ("CONTRACT = '1'", "expected CONTRACT = 1 in .*__init__.py, got '1'"),
        ("CONTRACT = 1 + 0", "expected CONTRACT = 1 in .*__init__.py, got 1 \\+ 0"),
        ("CONTRACT = (", "expected CONTRACT = 1 in .*__init__.py, got SyntaxError"),
    ],
)
def test_plugin_of_another_contract_is_refused_at_use_and_listed(
    stated: str, said: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "old_of_test"
    (package / "conf" / "head").mkdir(parents=True)
    (package / "__init__.py").write_text(f"{stated}\n")
    (package / "conf" / "head" / "old.yaml").write_text(
        "# @package heads.old\n_target_: old_of_test.Head\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    install("old_of_test")
    with pytest.raises(UsageError, match=f"old_of_test: {said}"):
        compose(parse(["head=old"]))
    compose(parse(["head=unet"]))
    rows, broken = listing._rows("head")
    assert {row["name"] for row in rows} >= {"old", "unet"}
    assert len(broken) == 1
    assert re.match(f"plug-in old_of_test: {said}", broken[0])
    assert "old_of_test" not in sys.modules


def test_a_plugin_that_states_the_contract_is_not_imported_for_it(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "right_of_test"
    package.mkdir()
    (package / "__init__.py").write_text("CONTRACT = 1\nraise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("right_of_test")
    assert [plugin.error for plugin in find_plugins()] == [""]
