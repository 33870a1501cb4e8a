"""What a configuration may build, and what it is told where it may not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from densekit import build


@pytest.mark.parametrize(
    "path", ["densekit.backbones.ResNet", "densekit.necks.FPN", "torch.optim.SGD"]
)
def test_classes_of_densekit_and_listed_ones_are_found(path: str) -> None:
    assert build.find_class(path).__name__ == path.rpartition(".")[2]


@pytest.mark.parametrize("path", sorted(build.TORCH_CLASSES))
def test_every_listed_name_is_a_class(path: str) -> None:
    assert isinstance(build.find_class(path), type)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("os.system", "got os.system; if you trust os"),
        ("torch.hub.load", "got torch.hub.load; if you trust torch"),
        ("torch.nn.Sequential", r"trust=\[torch\]"),
        ("subprocess.Popen", r"trust=\[subprocess\]"),
        # Names that densekit imports reach any module; the class's own home decides.
        ("densekit.build.importlib.util.module_from_spec", "expected a class, the only thing"),
        ("densekit.artifact.Path", r"trust=\[pathlib\]"),
        ("densekit.backbones.resnet18", "expected a class, the only thing"),
        ("densekit.backbones.Resnet", "did you mean 'ResNet'"),
        ("ResNet", "expected the dotted path of a class"),
        ("densekit.backbones.ResNet()", "expected the dotted path of a class"),
    ],
)
def test_everything_else_is_refused(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.find_class(path, "backbone")


def test_functions_are_refused_even_of_trusted_packages() -> None:
    with pytest.raises(ValueError, match=r"heads.x._target_: expected a class, the only"):
        build.find_class("torch.hub.load", "heads.x", trust=["torch"])


def test_refusal_names_the_key_and_how_to_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_head_of_test.py").write_text("class MyHead:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = {"heads": {"mine": {"_target_": "my_head_of_test.MyHead"}}}
    with pytest.raises(ValueError, match=r"heads\.mine\._target_.*trust=\[my_head_of_test\]"):
        build.check_targets(cfg)
    assert "my_head_of_test" not in sys.modules  # refused before it ran
    build.check_targets(cfg, trust=["my_head_of_test"])


def test_unknown_package_is_named() -> None:
    with pytest.raises(ValueError, match="no_such_package_here"):
        build.find_class("no_such_package_here.Head", trust=["no_such_package_here"])


def test_targets_are_found_at_any_depth() -> None:
    cfg = {"a": [{"b": {"_target_": "os.system"}}]}
    with pytest.raises(ValueError, match=r"a\[0\]\.b\._target_"):
        build.check_targets(cfg)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        # By position, `weights` would reach a backbone past the check that takes it out.
        ({"_args_": [18, "/some/file"]}, r"a\[0\]\._args_: .*by name"),
        ({"_args_": None}, r"a\[0\]\._args_"),
        ({"_recursive_": "no"}, r"a\[0\]\._recursive_: expected true or false, got 'no'"),
        ({"_partial_": 1}, r"a\[0\]\._partial_: expected true or false, got 1"),
        ({"_convert_": "none"}, r"a\[0\]\._convert_: expected 'all', got 'none'"),
    ],
)
def test_what_speaks_to_hydra_is_checked(more: dict[str, Any], message: str) -> None:
    node = {"_target_": "densekit.backbones.ResNet", "depth": 18}
    good = {"_partial_": True, "_recursive_": False, "_convert_": "all"}
    build.check_targets({"a": [node | good]})
    with pytest.raises(ValueError, match=message):
        build.check_targets({"a": [node | more]})
    with pytest.raises(ValueError, match="expected true or false|expected 'all'|by name"):
        build.check_targets({"a": more})  # a node without a class hands its keys down


def test_interpolations_of_a_stored_config_are_refused() -> None:
    with pytest.raises(ValueError, match="paths.data: expected a value, .* got '"):
        build.check_targets({"paths": {"data": "${oc.env:HOME}"}})


def test_instantiate_nests_and_keeps_partials() -> None:
    node = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.5}
    made = build.instantiate(node, "optimizer")
    assert made.keywords == {"lr": 0.5}


def test_instantiate_error_begins_with_the_key() -> None:
    with pytest.raises(ValueError, match=r"^schedule: .*bogus"):
        build.instantiate({"_target_": "densekit.training.Constant", "bogus": 1}, "schedule")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            {"out_channels": 128},
            "neck: expected a _target_, got out_channels; .*~neck.out_channels",
        ),
        ({"_taget_": "densekit.necks.FPN"}, "got _taget_; did you mean '_target_' by '_taget_'"),
        ({}, "neck: expected a _target_, got {}"),
        (None, "neck: expected a _target_, got None"),
    ],
)
def test_a_node_without_a_class_is_refused(node: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build.instantiate(node, "neck")


def test_a_missing_argument_is_named_with_its_key() -> None:
    node = {
        "_target_": "densekit.data.Source",
        "train": {"_target_": "densekit.data.CocoDetection"},
    }
    with pytest.raises(
        ValueError, match=r"^data\.x\.train \(CocoDetection\): expected root.*, got none"
    ):
        build.instantiate(node, "data.x")
    tiny = {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8}
    cfg = {"backbone": tiny, "heads": {"a": {"_target_": "densekit.heads.FCN"}}}
    with pytest.raises(ValueError, match=r"^heads\.a \(FCN\): expected num_classes, got none"):
        build.build_model(cfg, {})
