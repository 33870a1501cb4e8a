"""Composing: what is accepted, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from densekit.app.config.compose import apply_values, compose
from densekit.app.config.groups import hidden_files
from densekit.app.config.overrides import parse
from densekit.app.errors import UsageError


def test_default_composes() -> None:
    composed = compose(parse([]))
    assert composed.name == ""
    assert list(composed.cfg.heads) == ["detection"]
    assert "hydra" not in composed.cfg


def test_values_of_files_that_are_missing_are_set(project: Path) -> None:
    file = project / "conf" / "experiment" / "mine.yaml"
    file.write_text(
        "# @package _global_\nvars: {width: \"???\"}\nbackbone: {width: '${vars.width}'}\n"
    )
    assert compose(parse(["experiment=mine", "vars.width=8"])).cfg.backbone.width == 8
    assert OmegaConf.is_missing(compose(parse(["experiment=mine"])).cfg.vars, "width")


def test_a_class_stands_for_what_was_there() -> None:
    words = ["inferer={_target_:densekit.inference.SlidingWindow,window:[64,64]}"]
    words += ["optimizer={_target_:torch.optim.AdamW,lr:1e-3}"]
    cfg = compose(parse(words)).cfg
    assert cfg.inferer.window == [64, 64]
    assert dict(cfg.optimizer) == {"_target_": "torch.optim.AdamW", "lr": 1e-3}


@pytest.mark.parametrize("name", ["2024_01_02", "1e3", "no", "010"])
def test_text_arguments_of_classes_are_text(name: str) -> None:
    words = [f"callbacks.checkpoint.monitor={name}", f"data.scenes.train.split={name}"]
    cfg = compose(parse([*words, f"run_name={name}", f"trust=[{name}]"])).cfg
    assert (cfg.callbacks.checkpoint.monitor, cfg.data.scenes.train.split) == (name, name)
    assert (cfg.run_name, cfg.trust) == (name, [name])
    assert compose(parse([f"optimizer.lr={name}"] if name == "1e3" else [])).cfg.optimizer.lr in (
        1000,
        0.02,
    )


def test_experiment_gives_the_name() -> None:
    assert compose(parse(["experiment=quickstart"])).name == "quickstart"


def test_real_argument_that_no_file_mentions_is_set() -> None:
    cfg = compose(parse(["optimizer.nesterov=true", "backbone.norm=group"])).cfg
    assert cfg.optimizer.nesterov is True
    assert cfg.backbone.norm == "group"


def test_second_head_of_a_kind() -> None:
    cfg = compose(parse(["+head@heads.cells=faster_rcnn", "heads.cells.num_classes=3"])).cfg
    assert list(cfg.heads) == ["detection", "cells"]
    assert cfg.heads.cells.num_classes == 3
    assert cfg.heads.cells._target_ == cfg.heads.detection._target_


def test_several_data_sets_and_callbacks() -> None:
    cfg = compose(parse(["data=[bccd,coco_small]", "callbacks=[default,ema]"])).cfg
    assert list(cfg.data) == ["bccd", "coco"]
    assert "ema" in cfg.callbacks
    assert "checkpoint" in cfg.callbacks


def test_entries_can_be_removed() -> None:
    cfg = compose(parse(["~callbacks.curves", "neck=none", "logger=none"])).cfg
    assert "curves" not in cfg.callbacks
    assert cfg.neck is None
    assert cfg.logger == {}


def test_a_value_that_does_not_resolve_yet_can_be_removed() -> None:
    cfg = compose(parse(["~heads.detection.num_classes"])).cfg
    assert "num_classes" not in cfg.heads.detection


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimzer.lr=3", "'optimzer'.*'optimizer'"),
        ("sed=3", "'sed'.*'seed'"),
        ("backbon=resnet50", "'backbon'.*'backbone'"),
        ("backbone=resnet51", "backbone: .* got 'resnet51'; did you mean 'resnet50'"),
        ("experiment=quickstrat", "experiment: .* got 'quickstrat'; did you mean 'quickstart'"),
        ("+head@heads.b=faster_rccn", "head: .* got 'faster_rccn'; did you mean 'faster_rcnn'"),
        ("optimizer.lrr=3", r"optimizer\.lrr \(SGD\): .*'lr'"),
        ("+optimizer.momentun=1", r"optimizer\.momentun \(SGD\): .*'momentum'"),
        ("trainer.max_epoch=3", r"trainer\.max_epoch \(Trainer\): .*'max_epochs'"),
        ("heads.detection.num_clases=3", r"\(FasterRCNN\): .*'num_classes'"),
        ("data.scenes.train.lenght=3", r"data\.scenes\.train\.lenght \(Scenes\): .*'length'"),
        ("data.scens.batch_size=3", r"data\.scens: .*'scenes'.*\+data\.scens"),
        ("callbacks.curvess.path=x", r"callbacks\.curvess: .*'curves'"),
        ("~callbacks.curvess", r"callbacks\.curvess: .*'curves'"),
        ("paths.dta=x", r"paths\.dta: .*'data'"),
        ("+foo=1", "'foo'"),
        ("seed=1,2", "seed: expected one value, got 1,2; add -m"),
        ("neck=null", "neck=none"),
        ("backbone.depth.x=1", r"expected backbone\.depth to be a mapping, got 18"),
        ("backbone._target_=densekit.backbones.Resnet", "did you mean 'ResNet'"),
        ("+heads.mine._target_=my_head.MyHead", r"trust=\[my_head\]"),
        (
            "optimizer._target_=torch.hub.load",
            "expected a class .* got torch.hub.load; if you trust",
        ),
        (
            "+data.scenes.sampling={_target_: densekit.data.Shares, shares: {a: x}}",
            r"data\.scenes\.sampling\.shares: expected a mapping to a number, got",
        ),
        ("+vars.x={null: 1}", r"vars\.x: expected a value that YAML can hold, got \{null: 1\}"),
        ("seed@x=3", "seed@x: expected a group before the @"),
        ("~seed", "seed: expected a value, got none"),
        ("seed=-1", "seed: expected a number of 0 to 4294967295, got -1"),
        ("seed=two", "seed: expected a whole number, got 'two'"),
        ("optimizer.lr=-1", r"optimizer\.lr: expected a number of at least 0, got -1"),
        ("optimizer.lr=fast", r"optimizer\.lr: expected a number, got 'fast'"),
        ("trainer.max_epochs=two", r"max_epochs: expected a whole number or null, got 'two'"),
        ("trainer.max_epochs=-2", r"max_epochs: expected a number of at least -1, got -2"),
        ("optimizer.lr=inf", r"optimizer\.lr: expected a number of at least 0, got inf"),
        ("neck.out_channels=0", r"out_channels: expected a number of at least 1, got 0"),
        ("callbacks.checkpoint.keep=-7", r"keep: expected a number of at least -1, got -7"),
        ("trainer.devices=0", r"trainer\.devices: expected at least 1, .*, got 0"),
        ("trainer.devices=[]", r"trainer\.devices: expected at least 1, .*, got \[\]"),
        ("data.scenes.batch_size=0", r"scenes\.batch_size: expected a number of at least 1, got 0"),
        ("data.scenes.num_workers=-1", "num_workers: expected a number of at least 0, got -1"),
        ("data.scenes.train.size=[a,b]", r"size: expected a list of int, got \['a', 'b'\]"),
        ("backbone.depth=true", r"backbone\.depth: expected a whole number, got True"),
        ("test=maybe", "test: expected true or false, got 'maybe'"),
    ],
)
def test_mistakes_are_refused_with_the_nearest_match(word: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compose(parse([word]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["head=unet", "heads.segmentation.dept=4"], r"\(UNet\): .*'depth'"),
        (["head=fcn", "heads.segmentation.losess=null"], r"\(FCN\): .*'losses'"),
        (["head=pspnet", "heads.segmentation.aux_levle=null"], r"\(PSPNet\): .*'aux_level'"),
        (
            ["head=unet", "metrics=medical", "metrics.segmentation.surfaces.tolerence=2"],
            r"\(SurfaceDistances\): .*'tolerance'",
        ),
    ],
)
def test_arguments_that_a_class_passes_on_are_checked(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        compose(parse(words))


def test_arguments_that_a_class_passes_on_are_accepted() -> None:
    words = ["heads.segmentation.loss_weights={ce: 2}", "heads.segmentation.depth=4"]
    words += ["metrics.segmentation.dice.sync_on_compute=false"]
    cfg = compose(parse(["head=unet", "metrics=medical", *words])).cfg
    assert cfg.heads.segmentation.loss_weights.ce == 2


@pytest.mark.parametrize(
    ("head", "setting"),
    [
        ("unetplusplus", "decoder_channels=[64,32,16,16,8]"),
        ("manet", "decoder_channels=[64,32,16,16,8]"),
        ("linknet", "prefinal_channels=16"),
        ("smp_fpn", "pyramid_channels=64"),
        ("smp_pspnet", "out_channels=64"),
        ("pan", "decoder_channels=16"),
        ("smp_upernet", "decoder_channels=64"),
        ("segformer", "segmentation_channels=64"),
    ],
)
def test_settings_of_a_decoder_are_arguments_of_its_head(head: str, setting: str) -> None:
    name = setting.partition("=")[0]
    words = [f"head={head}", f"heads.segmentation.{setting}", "heads.segmentation.depth=4"]
    assert name in compose(parse(words)).cfg.heads.segmentation
    with pytest.raises(UsageError, match=rf"heads\.segmentation\.x{name} \(SmpHead\): .*'{name}'"):
        compose(parse([words[0], f"heads.segmentation.x{setting}"]))


def test_a_setting_of_another_decoder_is_refused() -> None:
    words = ["head=linknet", "heads.segmentation.pyramid_channels=8"]
    with pytest.raises(UsageError, match=r"heads\.segmentation\.pyramid_channels \(SmpHead\)"):
        compose(parse(words))
    words.insert(1, "heads.segmentation.decoder=fpn")
    assert compose(parse(words)).cfg.heads.segmentation.pyramid_channels == 8
    with pytest.raises(
        UsageError, match="heads.segmentation.decoder: .* got 'fnp'; did you mean 'fpn'"
    ):
        compose(parse(["head=linknet", "heads.segmentation.decoder=fnp"]))


@pytest.mark.parametrize("path", ["/a b", "/a=b(c)[d]~#&'", "/größe/写真"])
def test_odd_paths(path: str) -> None:
    cfg = compose(parse(["data=bccd", f"paths.data={path}", f"data.bccd.test.root={path}"])).cfg
    assert cfg.paths.data == path
    assert cfg.data.bccd.test.root == path
    assert cfg.data.bccd.train.root == f"{path}/bccd"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an odd name and a conf folder of its own."""
    folder = tmp_path / "my (größte) project"
    (folder / "conf" / "experiment").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def test_conf_of_the_working_folder_is_found(project: Path) -> None:
    file = project / "conf" / "experiment" / "mine.yaml"
    file.write_text("# @package _global_\ndefaults:\n  - override /backbone: resnet34\nseed: 7\n")
    composed = compose(parse(["experiment=mine"]))
    assert composed.name == "mine"
    assert (composed.cfg.seed, composed.cfg.backbone.depth) == (7, 34)


def test_hidden_files_are_named_in_one_line(
    project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("resnet18", "resnet34", "resnet50"):
        (project / "conf" / "backbone").mkdir(exist_ok=True)
        (project / "conf" / "backbone" / f"{name}.yaml").write_text("depth: 18\n")
    with caplog.at_level("WARNING", logger="densekit"):
        compose(parse([]))
    (line,) = caplog.messages
    assert line.startswith(f"{project / 'conf' / 'backbone' / 'resnet18.yaml'} and 2 more files: ")


def test_own_files_are_not_hidden_silently(project: Path) -> None:
    file = project / "conf" / "experiment" / "quickstart.yaml"
    file.write_text("# @package _global_\nseed: 7\n")
    assert hidden_files([project / "conf"]) == [file]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimiser: {lr: 1}", "'optimiser'.*'optimizer'"),
        ("optimizer: {lrr: 1}", r"optimizer\.lrr \(SGD\)"),
        ("heads: {detection: {num_clases: 1}}", r"heads\.detection\.num_clases"),
        ("optimizer: {lr: fast}", r"optimizer\.lr: expected a number, got 'fast'"),
        ("run_name: 2024_01_02", "run_name: expected text or null, got 20240102"),
        ("vars: {a: ]", r"expected files that YAML can read, got .*mine\.yaml"),
    ],
)
def test_mistakes_in_files_are_refused(project: Path, text: str, message: str) -> None:
    file = project / "conf" / "experiment" / "mine.yaml"
    file.write_text(f"# @package _global_\n{text}\n")
    with pytest.raises(UsageError, match=message):
        compose(parse(["experiment=mine"]))


@pytest.mark.parametrize(
    ("group", "text", "message"),
    [
        ("data", "resize: null", r"conf/data: .*'# @package _global_', .* data\.resize"),
        ("data", "_target_: densekit.data.Source", r"conf/data: .* data\._target_"),
        ("data", "mine: {_taget_: a.B}", r"data\.mine: .* '_target_' by '_taget_'"),
        ("experiment", "seed: 1", "conf/experiment: .*'# @package _global_', .* experiment"),
        ("head", "num_classes: 1", r"conf/head: .*'# @package heads\.NAME', .* head"),
        ("callbacks", "mine: {monitor: a}", r"callbacks\.mine: expected a _target_, got monitor"),
    ],
)
def test_files_without_package_or_class_are_refused(
    project: Path, group: str, text: str, message: str
) -> None:
    (project / "conf" / group).mkdir(exist_ok=True)
    (project / "conf" / group / "mine.yaml").write_text(f"{text}\n")
    with pytest.raises(UsageError, match=message):
        compose(parse([f"{group}=mine"]))


def test_values_of_an_experiment_need_the_class_they_are_for() -> None:
    words = ["experiment=quickstart", "neck=none"]
    with pytest.raises(UsageError, match=r"neck: expected a _target_, .* ~neck\.out_channels"):
        compose(parse(words))
    assert not compose(parse([*words, "~neck.out_channels"])).cfg.neck


def test_local_head_by_trust(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "head_of_test.py").write_text(
        "class Mine:\n    def __init__(self, specs, width=3):\n        pass\n"
    )
    monkeypatch.syspath_prepend(str(project))
    words = ["+heads.mine._target_=head_of_test.Mine", "trust=[head_of_test]"]
    assert compose(parse([*words, "heads.mine.width=4"])).cfg.heads.mine.width == 4
    with pytest.raises(UsageError, match=r"heads\.mine\.widht \(Mine\): .*'width'"):
        compose(parse([*words, "heads.mine.widht=4"]))


def test_values_are_applied_to_a_stored_config() -> None:
    cfg = OmegaConf.create({"optimizer": {"_target_": "torch.optim.SGD", "lr": 1.0}})
    apply_values(cfg, parse(["optimizer.lr=2", "optimizer.nesterov=true"]))
    assert cfg.optimizer == {"_target_": "torch.optim.SGD", "lr": 2, "nesterov": True}
    with pytest.raises(UsageError, match="'lr'"):
        apply_values(cfg, parse(["optimizer.lrr=2"]))
    with pytest.raises(UsageError, match=r"sizes\.0: expected the key of a whole list.*: sizes="):
        apply_values(OmegaConf.create({"sizes": [1]}), parse(["sizes.0=2"]))
    apply_values(cfg, parse(["~optimizer.nesterov"]))
    assert "nesterov" not in cfg.optimizer
    cfg.other = 1
    apply_values(cfg, parse(["~other"]))
    assert "other" not in cfg
    apply_values(cfg, parse(["optimizer={_target_:torch.optim.AdamW}"]))
    assert dict(cfg.optimizer) == {"_target_": "torch.optim.AdamW"}
    with pytest.raises(UsageError, match=r"optimizer.momentum \(AdamW\): expected one of"):
        apply_values(cfg, parse(["optimizer={_target_:torch.optim.AdamW,momentum:1}"]))
