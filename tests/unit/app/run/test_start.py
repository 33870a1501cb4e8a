"""Starting weights are taken over exactly, or as asked; nothing is lost in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from densekit.app.errors import UsageError
from densekit.app.run.start import class_rows, start_from
from densekit.artifact import save_artifact
from densekit.build import build_model
from densekit.model import DenseModel

OLD = ["cat", "dog", "cow"]
NEW = ["dog", "sheep", "cat", "pig"]


def _cfg(names: list[str], head: str = "detection", **extra: Any) -> dict[str, Any]:
    box_head = {"_target_": "densekit.heads.faster_rcnn.BoxHead", "_partial_": True, "hidden": [16]}
    heads = {
        "detection": {
            "_target_": "densekit.heads.FasterRCNN",
            "num_classes": len(names),
            "box_head": box_head,
        },
        "segmentation": {
            "_target_": "densekit.heads.FCN",
            "num_classes": len(names),
            "level": "c3",
            "aux_level": None,
        },
    }
    return {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8},
        "neck": {"_target_": "densekit.necks.FPN", "out_channels": 8},
        "heads": {head: heads[head]},
        "reset_head": False,
        "map_classes_by_name": False,
        "training": {},
        **extra,
    }


def _model(cfg: dict[str, Any], names: list[str]) -> DenseModel:
    info = {"names": names, "ids": list(range(len(names))), "num_classes": len(names)}
    return build_model(cfg, {"heads": {name: info for name in cfg["heads"]}})


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, DenseModel]:
    torch.manual_seed(1)
    cfg = _cfg(OLD)
    model = _model(cfg, OLD)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.normal_()
    save_artifact(tmp_path / "old.ckpt", model, yaml.safe_dump(cfg))
    return tmp_path / "old.ckpt", model


def _started(saved: tuple[Path, DenseModel], names: list[str], **cfg: Any) -> DenseModel:
    full = _cfg(names, checkpoint=str(saved[0]), **cfg)
    model = _model(full, names)
    start_from(model, full)
    return model


def test_same_classes_are_taken_over_exactly(saved: tuple[Path, DenseModel]) -> None:
    model = _started(saved, OLD)
    for name, value in saved[1].state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("names", [NEW, OLD[::-1], ["cat", "dog"]])
def test_other_classes_are_refused(saved: tuple[Path, DenseModel], names: list[str]) -> None:
    with pytest.raises(UsageError, match=r"3 classes \(cat, dog, cow\).*map_classes_by_name=true"):
        _started(saved, names)


def test_reset_head_keeps_all_but_the_head(saved: tuple[Path, DenseModel]) -> None:
    model, old = _started(saved, NEW, reset_head=["detection"]), saved[1].state_dict()
    own = model.state_dict()
    assert all(torch.equal(own[k], v) for k, v in old.items() if not k.startswith("heads."))
    fresh = "heads.detection.rpn.conv.weight"
    name = fresh if fresh in own else next(k for k in own if k.startswith("heads.detection.rpn"))
    assert not torch.equal(own[name], old[name])


def test_classes_are_mapped_by_name(saved: tuple[Path, DenseModel]) -> None:
    own = _started(saved, NEW, map_classes_by_name=True).state_dict()
    old = saved[1].state_dict()
    logits, deltas = (f"heads.detection.box_head.{part}.weight" for part in ("logits", "deltas"))
    assert torch.equal(own[logits][0], old[logits][1])  # dog
    assert torch.equal(own[logits][2], old[logits][0])  # cat
    assert torch.equal(own[logits][4], old[logits][3])  # background, last
    assert torch.equal(own[deltas][8:12], old[deltas][:4])
    assert own[logits].shape == (5, 16)
    hidden = "heads.detection.box_head.hidden.0.weight"
    assert torch.equal(own[hidden], old[hidden])


def _identities(count: int, digest: str | None) -> tuple[dict[str, Any], DenseModel]:
    """Configuration and model of an embedding that knows so many people."""
    head = {"_target_": "densekit.heads.Embedding", "num_identities": count, "embedding_size": 4}
    cfg = _cfg(OLD) | {"neck": None, "heads": {"identity": head}}
    known = {"num_identities": count} | ({} if digest is None else {"identities": digest})
    return cfg, build_model(cfg, {"heads": {"identity": known}})


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ("one", "one", ""),
        ("one", "two", "got 3 identities, of which the data have 3 others"),
        (None, "one", "got a checkpoint without a digest"),
        ("one", None, "got data without a digest"),
        (None, None, "got a checkpoint without a digest"),
    ],
)
def test_centres_of_other_identities_are_refused(
    tmp_path: Path, before: str | None, now: str | None, message: str
) -> None:
    cfg, old = _identities(3, before)
    save_artifact(tmp_path / "old.ckpt", old, yaml.safe_dump(cfg))
    cfg, model = _identities(3, now)
    cfg |= {"checkpoint": str(tmp_path / "old.ckpt")}
    own, fresh = model.state_dict(), {k: v.clone() for k, v in model.state_dict().items()}
    (centres,) = (name for name in own if name.endswith("centres"))
    if message:
        with pytest.raises(UsageError, match=rf"{message}.*reset_head=\[identity\]"):
            start_from(model, cfg)
        start_from(model, cfg | {"reset_head": ["identity"]})
        assert torch.equal(own[centres], fresh[centres])
        start_from(model, cfg | {"kept": {"heads": {"identity": {}}}})
    else:
        start_from(model, cfg)
    assert torch.equal(own[centres], old.state_dict()[centres])


def test_same_classes_in_another_order_are_mapped(saved: tuple[Path, DenseModel]) -> None:
    own = _started(saved, OLD[::-1], map_classes_by_name=True).state_dict()
    logits = "heads.detection.box_head.logits.bias"
    assert torch.equal(own[logits], saved[1].state_dict()[logits][[2, 1, 0, 3]])


def test_nothing_in_common_is_refused(saved: tuple[Path, DenseModel]) -> None:
    with pytest.raises(UsageError, match=r"expected some of \["):
        _started(saved, ["fish"], map_classes_by_name=True)


def test_another_backbone_is_refused(saved: tuple[Path, DenseModel]) -> None:
    cfg = _cfg(OLD, checkpoint=str(saved[0]))
    cfg["backbone"]["width"] = 16
    with pytest.raises(UsageError, match=r"backbone\.conv1\.weight: .*got \(8, 3, 7, 7\)"):
        start_from(_model(cfg, OLD), cfg)


def test_a_new_head_starts_fresh_on_the_old_backbone(
    saved: tuple[Path, DenseModel], caplog: pytest.LogCaptureFixture
) -> None:
    cfg = _cfg(NEW, "segmentation", checkpoint=str(saved[0]))
    model = _model(cfg, NEW)
    start_from(model, cfg)
    old = saved[1].state_dict()
    assert torch.equal(model.state_dict()["backbone.conv1.weight"], old["backbone.conv1.weight"])
    assert "start fresh: heads.segmentation" in caplog.text
    assert "heads.detection" in caplog.text


def test_class_rows_of_a_head() -> None:
    cfg = _cfg(OLD)
    rows = class_rows(cfg, _model(cfg, OLD), "detection")
    assert {name.removeprefix("heads.detection.box_head."): n for name, n in rows.items()} == {
        "logits.weight": 1,
        "logits.bias": 1,
        "deltas.weight": 4,
        "deltas.bias": 4,
    }


def test_unknown_head_to_reset(saved: tuple[Path, DenseModel]) -> None:
    with pytest.raises(
        UsageError, match="reset_head: .* got 'detectoin'; did you mean 'detection'"
    ):
        _started(saved, NEW, reset_head=["detectoin"])
