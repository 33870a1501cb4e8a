"""The Python that README and guide show runs, with the names that it shows."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from densekit.app.cli import main
from densekit.app.config.compose import compose
from densekit.app.config.overrides import expand, parse
from densekit.artifact import save_artifact
from densekit.build import build_model, find_class, walk
from densekit.evaluation import Evaluation, Measured, write_evaluation
from densekit.testing import check_data, check_metric, check_transform
from densekit.types import Batch

PROJECT = Path(__file__).resolve().parents[2]


def _blocks(page: str, language: str = "python") -> list[str]:
    text = (PROJECT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture
def batch() -> Batch:
    valid = torch.zeros(2, 8, dtype=torch.bool)
    valid[:, :2] = True
    return Batch(
        image=torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8),
        size=torch.tensor([[64, 96], [60, 80]]),
        sample_valid=torch.tensor([True, True]),
        key=torch.tensor([1, 2]),
        boxes=torch.tensor([8.0, 8.0, 40.0, 40.0]).expand(2, 8, 4) * valid[..., None],
        boxes_valid=valid,
        labels=torch.zeros(2, 8, dtype=torch.int64),
        crowd=torch.zeros(2, 8, dtype=torch.bool),
        meta=[{"path": "", "image_id": i, "original_size": (64, 96)} for i in range(2)],
    )


def test_readme_and_concepts(batch: Batch) -> None:
    names: dict[str, Any] = {"batch": batch}
    exec(_blocks("README.md")[1], names)
    assert {"detection/rpn_cls", "detection/cls"} <= set(names["losses"])
    assert names["predictions"]["detection"]["boxes"].shape[::2] == (2, 4)

    specs, usage = _blocks("docs/concepts.md")
    exec(specs, names)
    names["model"].eval()
    exec(usage, names)
    assert len(names["results"]) == 2


def test_segmentation_models(batch: Batch) -> None:
    names: dict[str, Any] = {}
    *blocks, _ = _blocks("docs/segmentation.md")  # the last, of mmsegmentation, has a parity test
    for block in blocks:
        exec(block, names)
        masked = Batch(**batch, mask=torch.ones(2, 64, 96, dtype=torch.uint8))
        assert set(names["model"].loss(masked)) == {"segmentation/ce"}


def test_classification_models(batch: Batch) -> None:
    names: dict[str, Any] = {"image": batch["image"][0]}
    build, predict, convert = _blocks("docs/classification.md")
    exec(build, names)
    known = {"names": list("abcde"), "ids": list(range(5)), "num_classes": 5}
    names["model"].info["heads"] = {"classification": known}
    exec(predict, names)
    assert len(names["result"]["names"]) == len(names["result"]["labels"]) == 1
    exec(convert, names)
    assert names["model"].info["heads"]["classification"]["num_classes"] == 1000


@pytest.mark.parametrize(
    "page",
    ["docs/segmentation.md", "docs/medical.md", "docs/classification.md", "docs/backbones.md"],
)
def test_configurations_name_what_is_there(page: str) -> None:
    nodes = [node for block in _blocks(page, "yaml") for _, node in walk(yaml.safe_load(block))]
    targets = [node for node in nodes if isinstance(node, dict) and "_target_" in node]
    assert targets
    for node in targets:
        parameters = inspect.signature(find_class(node["_target_"])).parameters
        assert {key for key in node if not key.startswith("_")} <= set(parameters), node


OF_THE_READER = re.compile(r"=(mine|cells|people|planned|liver_planned|bars)$")
"""Words of a command that name a file which the reader writes."""
TESTED_ELSEWHERE = ("batch_size=auto", "acme/", "my_head", "hydra/")
"""A batch size to be found, plug-ins, a file of the reader's and sweeps."""


def _training_commands() -> list[str]:
    pages = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
    blocks = [block for page in pages for block in _blocks(str(page.relative_to(PROJECT)), "bash")]
    lines = [line for block in blocks for line in _as_the_shell_reads_it(block).splitlines()]
    begins = ("densekit train ", "uv run densekit train ")
    commands = [line.partition(" train ")[2] for line in lines if line.startswith(begins)]
    commands += re.findall(r"`densekit train ([^`]+)`", (PROJECT / "README.md").read_text())
    return [c for c in commands if not any(word in c for word in TESTED_ELSEWHERE)]


def _as_the_shell_reads_it(block: str) -> str:
    block = block.replace("\\\n", " ")
    for name, value in re.findall(r'^([A-Z]+)="(.*)"$', block, re.M):
        block = re.sub(rf"\${name}\b", value, block)
    return block


def test_training_commands_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PROJECT / "docs" / "examples")  # has the neck that the guide shows
    commands = _training_commands()
    assert len(commands) > 30
    for command in commands:
        words = shlex.split(command.replace("--cfg job", ""), comments=True)
        words = [w for w in words if not w.startswith("-")]
        known = [w for w in words if not OF_THE_READER.search(w)]
        if len(known) < len(words):  # variables are declared in the file that the reader writes
            known = [w for w in known if not w.startswith("vars.")]
        compose(expand(parse(known, sweep=True))[0])


def test_detection_presets() -> None:
    names: dict[str, Any] = {}
    presets, detectron2, retinanet, *_ = _blocks("docs/detection.md")
    exec(presets, names)
    exec(detectron2, names)
    exec(retinanet, names)
    assert names["model"].flip_channels


def test_an_experiment_in_python() -> None:
    names: dict[str, Any] = {}
    exec(_blocks("docs/configuration.md")[1], names)
    assert "detection/rpn_cls" in names["losses"]


def test_export_in_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    head = {"_target_": "densekit.heads.FCN", "num_classes": 2, "level": "c2", "aux_level": None}
    backbone = {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8}
    config = {"backbone": backbone, "neck": None, "heads": {"masks": head}}
    model = build_model(config, {})
    save_artifact("last.ckpt", model, yaml.safe_dump(config))
    exec(_blocks("docs/export.md")[-1], {})  # the first one: unit/inference/export/test_int8.py
    assert "masks/logits" in capsys.readouterr().out


def test_names_of_the_reference() -> None:
    exec(_blocks("docs/api/index.md")[0], {})


def test_own_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        folder = tmp_path / "mine" / split
        folder.mkdir(parents=True)
        Image.fromarray(np.zeros((40, 60, 3), dtype=np.uint8)).save(folder / "a.png")
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 60}],
            "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 30, 20]}],
        }
        (tmp_path / "mine" / f"{split}.json").write_text(json.dumps(content))
    (tmp_path / "conf" / "data").mkdir(parents=True)
    (tmp_path / "conf" / "data" / "mine.yaml").write_text(_blocks("docs/data.md", "yaml")[0])
    monkeypatch.chdir(tmp_path)

    assert main(["train", "--cfg", "job", "--resolve", "data=mine", f"paths.data={tmp_path}"]) == 0

    resolved = yaml.safe_load(capsys.readouterr().out)
    assert list(resolved["data"]) == ["mine"]
    assert resolved["heads"]["detection"]["num_classes"] == 2


def test_own_data_set_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_data.py").write_text("\n\n".join(_blocks("docs/data.md")))
    (tmp_path / "conf" / "data").mkdir(parents=True)
    node = next(block for block in _blocks("docs/data.md", "yaml") if "my_data.Bars" in block)
    (tmp_path / "conf" / "data" / "bars.yaml").write_text(node)
    shown = next(block for block in _blocks("docs/data.md", "bash") if "data=bars" in block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    small = ["backbone.width=8", "trainer.max_epochs=2", "trainer.accelerator=cpu", "run_name=bars"]
    assert main([*shlex.split(shown)[1:], *small, "callbacks.progress=null"]) == 0
    [metrics] = tmp_path.glob("runs/bars/*/metrics.json")
    assert json.loads(metrics.read_text())["val/segmentation/mIoU"] > 0.5
    mine = importlib.import_module("my_data")
    check_data(mine.Bars(0))
    check_transform(mine.Darken(), mine.Bars(0))


@pytest.mark.ddp
def test_own_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric.py").write_text((PROJECT / "docs/examples/my_metric.py").read_text())
    (tmp_path / "conf" / "metrics").mkdir(parents=True)
    [node] = (b for b in _blocks("docs/write-a-head.md", "yaml") if "my_metric" in b)
    (tmp_path / "conf" / "metrics" / "mine.yaml").write_text(node)
    shown = next(b for b in _blocks("docs/write-a-head.md", "bash") if "check metrics=mine" in b)
    check, train = (shlex.split(line, comments=True)[1:] for line in shown.strip().splitlines())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(check) == 0
    assert main([train[0], "--cfg", "job", *train[1:]]) == 0
    check_metric(importlib.import_module("my_metric").CountError())


def test_metric_with_a_section_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PROJECT / "docs/examples")
    metric = importlib.import_module("my_rows").CountRows()
    check_metric(metric)
    of_image = {"boxes": np.zeros((3, 4)), "labels": np.zeros(3), "scores": np.ones(3)}
    truths = [{"image_id": i, "boxes": np.zeros((n, 4))} for i, n in enumerate((0, 3))]
    metric.update([of_image, of_image], truths)
    assert float(metric.compute()["count_error"]) == 1.5
    assert metric.analyses()[0].values == {"too few": 0, "too many": 1}
    assert [suspect.image_id for suspect in metric.suspects()] == [0]
    keys = {"count_error": "x/count_error"}
    write_evaluation(
        tmp_path / "evaluation_test.npz",
        Evaluation("test", [Measured("set", "x", "mine", metric, keys)], {"set": {}}, {"set": {}}),
    )
    (tmp_path / "config.yaml").write_text("command: train")
    assert main(["report", str(tmp_path), "trust=[my_rows]"]) == 0
    assert "Images with a wrong number of objects" in (tmp_path / "report.html").read_text()


def test_misspelt_argument_is_refused_as_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "experiment=quickstart", "heads.detection.num_clases=3"]) != 0
    shown = next(b for b in _blocks("docs/configuration.md", "text") if "num_clases" in b)
    assert shown.strip() in capsys.readouterr().err


def test_backbone_contract() -> None:
    exec(_blocks("docs/backbones.md")[0], {})


def test_paths_of_the_documentation_exist() -> None:
    pages = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")]
    named = {
        (page.name, path)
        for page in pages
        for path in re.findall(r"[`(]((?:densekit|tests|tools)/[\w./-]+)", page.read_text())
    }
    assert len(named) > 30
    assert [one for one in sorted(named) if not (PROJECT / one[1]).exists()] == []


def test_links_outside_the_site_lead_somewhere() -> None:
    """MkDocs checks the links of docs/ alone."""
    links = [
        link.partition("#")
        for page in ("README.md", "CONTRIBUTING.md")
        for link in re.findall(r"\]\((?!http)([^)]+)\)", (PROJECT / page).read_text())
    ]
    assert len(links) > 30
    for file, _, anchor in links:
        assert (PROJECT / file).exists(), file
        headings = re.findall(r"^#+ (.+)$", (PROJECT / file).read_text(), re.M) if anchor else []
        assert not anchor or anchor in map(_anchor, headings), (file, anchor)


def _anchor(heading: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())
