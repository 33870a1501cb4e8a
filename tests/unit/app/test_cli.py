"""The command line itself: help, version, wrong words, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from densekit import __version__
from densekit._console import shares
from densekit._names import counted
from densekit.app.cli import main
from densekit.app.commands import COMMANDS
from densekit.app.terminal import quoted
from densekit.artifact import save_artifact
from densekit.build import build_model
from densekit.evaluation import read_evaluation

GROUND_TRUTH = {
    "images": [{"id": 5, "width": 100, "height": 100, "file_name": "a.jpg"}],
    "categories": [{"id": 3, "name": "cat"}],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400}
        | {"iscrowd": 0}
    ],
}
DETECTIONS = [{"image_id": 5, "category_id": 3, "bbox": [10, 10, 20, 20], "score": 0.9}]


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command}" in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    assert capsys.readouterr().out.count(f"densekit {command}") > 1


def test_help_of_train_lists_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "--help"])
    text = capsys.readouterr().out
    assert "quickstart" in text
    assert "resnet50" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"densekit {__version__}\n"


GIVEN = ["predict", f"checkpoint={__file__}", f"source={__file__}", "output=never_made"]
CHEAP = [
    ["trian"],
    ["train", "--cfg", "job", "experiment=bccd_faster_rcnn", "logger=tensorboard"],
    ["train", "optimzer.lr=1"],
    ["train", "heads.detection.num_clases=3"],
    ["train", "backbone._target_=densekit.backbones.Resnet"],
    ["train", "trainer.max_epochs=two"],
    ["train", "resume=nothing"],
    ["train", "checkpoint=nothing.ckpt"],
    ["train", "data=bccd", "paths.data=/no/such/folder"],
    ["train", "-m", "seed=0,-1"],
    ["eval", "checkpoint=nothing.ckpt"],
    ["eval", f"checkpoint={__file__}", "split=tset"],
    ["predict", f"checkpoint={__file__}"],
    ["predict", f"checkpoint={__file__}", "source=nothing", "output=never_made"],
    [*GIVEN, "device=gpu"],
    [*GIVEN, "threshold=high"],
    ["verify", "checkpoint=nothing.ckpt", __file__, __file__],
    ["search", "checkpoint=nothing.ckpt", __file__, "gallery=nothing"],
    ["info", "nothing.ckpt"],
]
"""What is answered without a network: seconds of imports would stand before the message."""


def test_what_needs_no_network_imports_no_torch(tmp_path: Path) -> None:
    script = (
        "import json, sys\n"
        "from densekit.app.cli import main\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    main(words)\n"
        "    heavy = {'torch', 'lightning', 'matplotlib', 'cv2'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)\n"
    )
    command = [sys.executable, "-c", script, json.dumps(CHEAP)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("densekit: error: ") == len(CHEAP) - 1
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_help_is_there_at_once(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from densekit.app.cli import main\n"
        "from densekit.app.commands import COMMANDS, LISTS\n"
        "for name in [*COMMANDS, *LISTS]:\n"
        "    assert main([name, '--help']) == 0\n"
        "    heavy = {'torch', 'hydra', 'omegaconf', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, (name, heavy)\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small detector, `a.ckpt`, and a picture."""
    folder = tmp_path_factory.mktemp("detector")
    cfg: dict[str, Any] = {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18, "width": 8},
        "neck": {"_target_": "densekit.necks.FPN", "out_channels": 8},
        "heads": {"objects": {"_target_": "densekit.heads.FasterRCNN", "num_classes": 2}},
    }
    info = {"heads": {"objects": {"names": ["a", "b"], "ids": [1, 2], "num_classes": 2}}}
    save_artifact(folder / "a.ckpt", build_model(cfg, info), yaml.safe_dump(cfg))
    Image.new("RGB", (64, 64)).save(folder / "a.png")
    return folder


@pytest.mark.parametrize("engine", ["eager", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_a_second_start_imports_what_predicts_and_no_more(engine: str, detector: Path) -> None:
    words = [
        f"{key}={detector}/{name}"
        for key, name in {"checkpoint": "a.ckpt", "source": "a.png", "output": "out"}.items()
    ]
    command = ["predict", *words, "device=cpu", f"engine={engine}"]
    if engine != "eager":
        assert main(command) == 0  # the first start compiles
    script = (
        "import json, sys\n"
        "from densekit.app.cli import main\n"
        "assert main(json.loads(sys.argv[1])) == 0\n"
        "heavy = {'lightning', 'torchmetrics', 'torchvision.ops', 'torch._dynamo', 'sympy'}\n"
        "heavy |= {'onnx', 'onnxscript', 'albumentations', 'matplotlib', 'scipy.ndimage', 'timm'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()\n"
    )
    run = [sys.executable, "-c", script, json.dumps(command)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("width", ["40", "80", "200"])
@pytest.mark.parametrize("command", ["heads", "experiments"])
def test_listings_break_no_name(
    command: str, width: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert main([command]) == 0
    shown = capsys.readouterr().out
    words = shown.split()
    assert {"faster_rcnn_small", "densekit.heads.Classification", "boxes_valid,", "p2-p6"} <= set(
        words
    ) or command == "experiments"
    assert "coco_faster_rcnn_r50_1x" in words or command == "heads"
    if width == "80":
        assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", [b"it's", b"a b=c;&$x", b"caf\xe9'\\n", "größe".encode()])
def test_printed_paths_can_be_pasted_into_a_shell(name: bytes) -> None:
    word = quoted(f"resume={os.fsdecode(name)}")
    script = f"printf %s {word}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout == b"resume=" + name


def test_columns_share_what_their_words_leave() -> None:
    assert shares([3, 4], [3, 30], 20) == [3, 17]
    assert shares([3, 4, 2], [9, 5, 30], 20) == [8, 5, 7]
    assert shares([30, 4], [30, 40], 20) == [30, 4]
    assert [counted(n, "image") for n in (0, 1, 2, 1200)] == [
        *("0 images", "1 image", "2 images", "1,200 images")
    ]
    assert counted(2, "class", "classes") == "2 classes"


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "did you mean 'train'"),
        (["train", "optimzer.lr=1"], "did you mean 'optimizer'"),
        (["train", "--resolv"], "did you mean '--resolve'"),
        (["train", "--cfg", "hydra"], "--cfg: expected job"),
        (
            ["eval"],
            "checkpoint: expected a checkpoint, a run folder or a published model, got nothing",
        ),
        (["eval", "checkpoint=no.ckpt"], "checkpoint: expected an existing file or folder, got no"),
        (["predict", "chekpoint=x"], "did you mean 'checkpoint'"),
        (["predict", "checkpoint=no.ckpt"], "source: expected a folder, a file or a pattern, got"),
        ([*GIVEN, "checkpoint=no.ckpt"], "checkpoint: expected an existing file or folder, got no"),
        ([*GIVEN, "threshold=high"], "threshold: expected best or a number from 0 to 1, got high"),
        ([*GIVEN, "device=gpu"], "device: expected auto, cpu, cuda, cuda:1 or mps, got gpu"),
        ([*GIVEN, "device=cuda:99"], "device: expected one of this machine's CUDA GPUs"),
        ([*GIVEN, "source=no"], "source: expected an existing file or folder, got no"),
        ([*GIVEN, "embeddings=csv"], "embeddings: expected one of npz, parquet, got csv"),
        (
            ["predict", f"checkpoint={__file__}", f"source={__file__}"],
            "output: expected a folder, got nothing",
        ),
        (
            ["predict", f"checkpoint={__file__}", f"source={__file__}", f"output={__file__}"],
            "File exists",
        ),
        (["train", "resume=no"], "resume: expected an existing file or folder, got no"),
    ],
)
def test_wrong_words_end_with_2_and_a_message(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err


def test_config_is_printed_and_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--cfg", "job", "seed=5"]) == 0
    plain = capsys.readouterr().out
    assert "seed: 5" in plain
    assert "${data_info:num_classes}" in plain
    assert main(["train", "--cfg=job", "--resolve"]) == 0
    resolved = capsys.readouterr().out
    assert "num_classes: 5" in resolved
    assert "${" not in resolved
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.accelerator=foo", "trainer: You selected an invalid accelerator name"),
        ("trainer.strategy=foo", "trainer: You selected an invalid strategy name"),
        ("precision=foo", "trainer: Precision 'foo' is invalid"),
        ("trainer.limit_val_batches=1.5", "trainer: You have passed invalid value 1.5"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval: expected a share"),
        ("backbone.width=0", "backbone.width: expected a number of at least 1, got 0"),
        ("optimizer.betas=[2,3]", "optimizer: Invalid beta parameter at index 0: 2"),
        ("callbacks.checkpoint.mode=up", "callbacks.checkpoint: `mode` can be min, max but got up"),
    ],
)
def test_what_a_class_refuses_is_refused_before_there_is_a_run_folder(
    word: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["experiment=quickstart_classification", "trainer.accelerator=cpu", word]
    assert main(["train", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_failed_check_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "data=bccd", "paths.data=/no/such/folder"]) == 2
    assert main(["train", "callbacks.checkpoint.monitor=val/detecton/AP"]) == 2
    assert main(["train", "data.scenes.heads=[cells]"]) == 2
    assert list(tmp_path.iterdir()) == []


def test_files_are_measured_without_a_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "größe (1)=["
    folder.mkdir()
    (folder / "gt.json").write_text(json.dumps(GROUND_TRUTH))
    (folder / "dt.json").write_text(json.dumps(DETECTIONS))
    words = [f"results={folder / 'dt.json'}", f"annotations={folder / 'gt.json'}"]
    assert main(["eval", *words, f"output={folder / 'out'}"]) == 0
    assert "AP50" in capsys.readouterr().out
    figures = json.loads((folder / "out" / "metrics.json").read_text())
    assert figures["AP"] == pytest.approx(1.0)
    kept = read_evaluation(folder / "out" / "evaluation_test.npz").measured[0]
    assert kept.values["detection/AP"] == pytest.approx(1.0)
    assert main(["eval", *words, "protocol=voc"]) == 0
    assert "VOC07_AP50" in capsys.readouterr().out
    assert main(["eval", *words, "iou_tpye=bbox"]) == 2
    assert main(["eval", *words, "protocol=lvis"]) == 2
    assert "category 3: expected a key 'frequency'" in capsys.readouterr().err


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(words: list[str]) -> int:
        return int({}["a defect"])

    monkeypatch.setattr("densekit.app.commands.predict.main", broken)
    with pytest.raises(KeyError):
        main(["predict"])
