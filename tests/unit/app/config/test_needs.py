"""`${heads_need:KEY}`: data sets load what the heads of the configuration learn."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from densekit.app.config import needs
from densekit.app.config.compose import compose
from densekit.app.config.overrides import parse
from densekit.app.run.evaluation import evaluation_data
from densekit.app.run.job import prepared

FASTER, UNET = ({"_target_": f"densekit.heads.{name}"} for name in ("FasterRCNN", "UNet"))
SPLITS = ("train", "val", "test")
CODE = """
from densekit.heads import FasterRCNN
class Outlined(FasterRCNN):
    target_keys = (*FasterRCNN.target_keys, "object_masks")
class Nearly(Outlined): pass
"""


def needed(key: str, *heads: object, trust: tuple[str, ...] = ()) -> bool:
    named = {f"h{number}": head for number, head in enumerate(heads)}
    cfg = OmegaConf.create(
        {"heads": named, "trust": list(trust), "data": {"x": {"masks": f"${{heads_need:{key}}}"}}}
    )
    found = OmegaConf.to_container(OmegaConf.select(cfg, "data"), resolve=True)
    return found["x"]["masks"]  # type: ignore[no-any-return, call-overload, index]


def test_any_head_may_need_it() -> None:
    assert needed("boxes", FASTER)
    assert needed("mask", FASTER, UNET)
    assert not needed("mask", FASTER, None)
    assert not needed("mask")


def test_the_source_of_a_class_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_class", None)
    assert needed("boxes_valid", FASTER)
    assert needed("mask", UNET)  # of its base class


def test_a_head_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outlined_of_test.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    head = {"_target_": "outlined_of_test.Nearly"}
    assert needed("object_masks", FASTER, head, trust=("outlined_of_test",))
    with pytest.raises(Exception, match=r"heads\.h0\._target_: .*trust"):
        needed("object_masks", head)
    sys.modules.pop("outlined_of_test", None)


def test_training_and_evaluation_load_what_the_heads_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outlined_of_runs.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    words = [
        "trust=[outlined_of_runs]",
        "data=scenes",
        *(f"data.scenes.{s}.length=2" for s in SPLITS),
    ]
    target = "outlined_of_runs.Outlined"
    info = {"heads": {"detection": {"names": ["disc", "square", "triangle", "star", "ring"]}}}
    for head, expected in ((FASTER["_target_"], False), (target, True)):
        job = prepared(compose(parse([*words, f"heads.detection._target_={head}"])))
        trained = job.cfg["data"]["scenes"]
        assert [trained[split]["instance_masks"] for split in SPLITS] == [expected] * 3
        # Evaluated with other data: what the composed defaults have as a head does not count.
        artifact = {"config": yaml.safe_dump({**job.cfg, "data": {}}), "info": info}
        cfg, sources, split = evaluation_data(artifact, tmp_path / "a.ckpt", parse(words), "val")
        assert cfg["data"]["scenes"]["val"]["instance_masks"] is expected
        assert ("instance_masks" in sources["scenes"].val[0]) is expected
