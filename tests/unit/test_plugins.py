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
    (package / "__init__.py").write_text("CONTRACT = 1\nraise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("boom_of_test")
    assert conf_folders() == [package / "conf"]
    assert [plugin.error for plugin in find_plugins()] == [""]
    assert "boom_of_test" not in sys.modules


def test_missing_package_is_a_row_and_no_crash(install: Install) -> None:
    install("gone_of_test", "densekit")
    own, broken = find_plugins()
    assert (broken.package, broken.error) == (
        "gone_of_test",
        "expected an installed package, got none",
    )
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


PLAIN = "expected CONTRACT = 1, a plain number at the top level of __init__.py, got"


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("CONTRACT = 2", "expected a plug-in for contract 1, got 2; upgrade densekit"),
        ("CONTRACT = 0", "expected a plug-in for contract 1, got 0; upgrade the plug-in"),
        ("CONTRACT = 1\nCONTRACT = 2", "expected a plug-in for contract 1, got 2"),
        ("", f"{PLAIN} nothing"),
        ("CONTRACT: int", f"{PLAIN} nothing"),
        ("def f():\n    CONTRACT = 1", f"{PLAIN} nothing"),
        ("CONTRACT = True", f"{PLAIN} 'CONTRACT = True'"),
        ("CONTRACT = '1'", f"{PLAIN} \"CONTRACT = '1'\""),
        ("CONTRACT = int('1')", f"{PLAIN} \"CONTRACT = int('1')\""),
        ("CONTRACT = 1\nCONTRACT += 1", f"{PLAIN} 'CONTRACT += 1'"),
        ("if True:\n    CONTRACT = 1", f"{PLAIN} 'if True:'"),
        ("from x import NUMBER as CONTRACT", f"{PLAIN} 'from x import NUMBER as CONTRACT'"),
        ("CONTRACT = (", f"{PLAIN} SyntaxError"),
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
    for words in (["head=old"], ["+heads.old={_target_: old_of_test.Head}"]):
        with pytest.raises(UsageError, match=f"old_of_test: {re.escape(said)}"):
            compose(parse(words))
    assert conf_folders() == []
    compose(parse(["head=unet"]))
    rows, broken = listing._rows("head")
    names = {row["name"] for row in rows}
    assert "unet" in names
    assert "old" not in names
    assert len(broken) == 1
    assert broken[0].startswith(f"plug-in old_of_test: {said}")
    assert "old_of_test" not in sys.modules


@pytest.mark.parametrize(
    "stated",
    [
        "CONTRACT: int = 1",
        "CONTRACT: Final = 1",
        "VERSION = CONTRACT = 1",
        "CONTRACT = 2\nCONTRACT = 1",
    ],
)
def test_ways_to_state_the_contract(
    stated: str, install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "states_of_test.py").write_text(f"{stated}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("states_of_test")
    assert [plugin.error for plugin in find_plugins()] == [""]


@pytest.fixture
def namespace(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two plug-ins, of this contract and of another, and a plain package in one namespace."""
    for package, text in (("det", "CONTRACT = 1"), ("old", "CONTRACT = 2"), ("other", "")):
        folder = tmp_path / "ns_of_test" / package
        (folder / "conf" / "head" / "ns").mkdir(parents=True)
        (folder / "conf" / "head" / "ns" / f"{package}.yaml").write_text(
            f"# @package heads.{package}\n_target_: ns_of_test.{package}.X\n"
        )
        (folder / "__init__.py").write_text(f"{text}\nclass X: pass\n")
    (tmp_path / "ns_of_test" / "det" / "reach.py").write_text("from ns_of_test.other import X\n")
    (tmp_path / "ns_of_test" / "within" / "deep").mkdir(parents=True)
    (tmp_path / "ns_of_test" / "within" / "deep" / "__init__.py").write_text("CONTRACT = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    install("ns_of_test.det", "ns_of_test.old", "ns_of_test.within.deep", "ns_of_test.within")
    yield tmp_path / "ns_of_test"
    for name in [name for name in sys.modules if name.partition(".")[0] == "ns_of_test"]:
        del sys.modules[name]


def test_plugins_of_a_namespace_are_found_without_an_import(namespace: Path) -> None:
    errors = {plugin.package.partition(".")[2]: plugin.error for plugin in find_plugins()}
    assert errors == {
        "det": "",
        "old": "expected a plug-in for contract 1, got 2; upgrade densekit",
        "within": f"{PLAIN} nothing",
        "within.deep": "",
    }
    assert conf_folders() == [namespace / "det" / "conf"]
    assert not any(name.startswith("ns_of_test") for name in sys.modules)


def test_a_file_that_names_an_option_of_a_refused_plugin(
    namespace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(namespace.parent)
    (namespace.parent / "conf" / "experiment").mkdir(parents=True)
    (namespace.parent / "conf" / "experiment" / "uses_old.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /head: ns/old\n"
    )
    with pytest.raises(UsageError, match=r"^ns_of_test\.old: .*got 2; upgrade densekit"):
        compose(parse(["experiment=uses_old"]))


def test_only_classes_within_the_package_of_an_entry_point_are_of_a_plugin(namespace: Path) -> None:
    assert build.find_class("ns_of_test.det.X").__module__ == "ns_of_test.det"
    with pytest.raises(ValueError, match=r"^ns_of_test\.old: .*got 2; upgrade densekit"):
        build.find_class("ns_of_test.old.X")
    for path in ("ns_of_test.other.X", "ns_of_test.det.reach.X", "ns_of_test.detached.X"):
        with pytest.raises(ValueError, match=r"trust=\[ns_of_test\]"):
            build.find_class(path)
    for package in ("det", "old", "other"):
        found = build.find_class(f"ns_of_test.{package}.X", trust=["ns_of_test"])
        assert found.__module__ == f"ns_of_test.{package}"
