"""`densekit compare` on evaluations whose difference is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from densekit.app.cli import main
from densekit.evaluation import Evaluation, Measured, write_evaluation
from densekit.metrics import Accuracy

IMAGES = 60


def run(folder: Path, wrong: int, *, images: int = IMAGES, lr: float = 0.1, name="{}.png") -> Path:
    """A run folder whose classifier is wrong in the last images."""
    metric = Accuracy(["cat", "dog"])
    right = np.arange(images) < images - wrong
    truths = [{"image_id": i, "category": np.int64(i % 2)} for i in range(images)]
    results = [{"probabilities": np.eye(2)[(i % 2) ^ (not right[i])]} for i in range(images)]
    metric.update(results, truths)
    keys = {key: f"classification/{key}" for key in metric.compute()}
    measured = Measured("pets", "classification", "accuracy", metric, keys)
    paths = {"pets": {i: name.format(i) for i in range(images)}}
    folder.mkdir()
    write_evaluation(
        folder / "evaluation_test.npz", Evaluation("test", [measured], paths, {"pets": {}})
    )
    (folder / "config.yaml").write_text(f"optimizer:\n  lr: {lr}\nseed: 0\n")
    return folder


def test_a_clear_difference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run(tmp_path / "a", wrong=30), run(tmp_path / "b", wrong=5, lr=0.2)
    words = ["compare", str(first), str(second), f"output={tmp_path / 'c.json'}", "require=better"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "accuracy: the second is better" in shown
    assert "optimizer.lr" in shown
    assert "seed" not in shown
    found = json.loads((tmp_path / "c.json").read_text())
    main_one = found["metrics"][0]["differences"][0]
    assert main_one["second"] - main_one["first"] == pytest.approx(25 / 60)
    assert 0.2 < main_one["low"] < 25 / 60 < main_one["high"] < 0.6
    assert main_one["p"] < 0.01
    assert found["settings"] == {"optimizer.lr": ["0.1", "0.2"]}
    changed = found["metrics"][0]["images"]
    assert len(changed) == 20
    assert changed[0] == {"path": "30.png", "first": 0.0, "second": 1.0}
    assert main(["compare", str(second), str(first), "require=not_worse"]) == 1
    assert "accuracy: expected not worse, got a difference of -0.4167" in capsys.readouterr().err


def test_no_difference_to_speak_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run(tmp_path / "a", wrong=5), run(tmp_path / "b", wrong=4)
    assert main(["compare", str(first), str(second), "require=not_worse"]) == 0
    assert "accuracy: not distinguishable" in capsys.readouterr().out
    assert main(["compare", str(first), str(second), "require=better"]) == 1


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"images": 59}, "expected two evaluations of the same images, got 60 and 59 of pets"),
        ({"name": "x{}.png"}, "got image 0 as 0.png and x0.png"),
    ],
)
def test_other_images_are_refused(
    other: dict, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = run(tmp_path / "a", wrong=5), run(tmp_path / "b", wrong=4, **other)
    assert main(["compare", str(first), str(second)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_an_evaluation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(tmp_path / "a", wrong=5)
    assert main(["compare", str(first), str(tmp_path)]) == 2
    assert "expected evaluation_test.npz or evaluation_val.npz, got none" in capsys.readouterr().err


def test_files_of_coco_boxes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 99, "height": 99} for i in range(30)]
    boxes = [
        {"id": i + 1, "image_id": i, "category_id": 7, "bbox": [10, 10, 40, 30], "area": 1200}
        for i in range(30)
    ]
    truth = {"images": images, "annotations": boxes, "categories": [{"id": 7, "name": "cat"}]}
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    for name, shift in (("good", 1.0), ("bad", 8.0)):
        found = [
            {**box, "score": 0.9, "bbox": [10 + shift * rng.random(), 10, 40, 30]} for box in boxes
        ]
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    places = [str(tmp_path / name) for name in ("good.json", "bad.json")]
    assert main(["compare", *places]) == 2
    assert "annotations: expected the ground truth of" in capsys.readouterr().err
    assert main(["compare", *places, f"annotations={tmp_path / 'truth.json'}"]) == 0
    assert "AP: the second is worse" in capsys.readouterr().out
