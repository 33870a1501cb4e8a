"""Run folders of every kind of head, made of random evaluations: nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from densekit.evaluation import Evaluation, Measured, write_evaluation
from densekit.metrics import Accuracy, CocoMap, DiceScore, MeanIoU, Verification
from densekit.visualization.label_maps import label_map
from tests.unit.metrics.detection.scenes import random_scene
from tests.unit.metrics.detection.test_resampled import categories
from tests.unit.metrics.embedding.faces import scene as faces

NAMES = ["cat", "dog"]
SIZE = {"boxes": (160, 150)}
"""Width and height of the images; those of other kinds are smaller."""
RECORD = {
    "command": "densekit train experiment=x",
    "started": "2026-01-02T03:04:05+00:00",
    "versions": {"densekit": "0.1.0", "torch": "2.9.0"},
    "git": {"commit": "0123456789", "branch": "main", "changed": True},
    "hardware": {"device": "a processor", "cores": 2},
    "data": {
        "set": {
            "test": {
                **{"images": 12, "classes": NAMES, "objects": {"cat": 9, "dog": 3}},
                **{"categories": {}, "repaired": {"thin box": 2}},
            }
        }
    },
    "parameters": {"backbone": {"all": 1000, "trained": 0}, "heads.x": {"all": 7, "trained": 7}},
}
LOG = """step: 4 x 3 x 64 x 64 of set, 12.5 GFLOP forward and backward, memory 1.2 GiB
epoch 0  step 1/9  loss 2.0  lr 0.1  0.5 s/step  ETA 0:00:03  memory 1.5 GiB
time: loading 1 %, forward 44 % of 218 s
"""
CSV = "epoch,step,train/loss,val/x/loss/box,val/x/AP,lr-SGD\n,9,1.5,,,0.1\n,19,1.0,0.4,0.5,0.05\n"


def boxes(seed: int = 0, images: int = 12) -> tuple[CocoMap, Any]:
    results, truths = random_scene(np.random.default_rng(seed), images, 2, crowd=0.1)
    for one in (*results, *truths):
        one["boxes"] = one["boxes"] / 4
    return CocoMap(NAMES), (results, truths)


def masks(seed: int = 0, shape: tuple[int, ...] = (60, 80)) -> tuple[MeanIoU | DiceScore, Any]:
    rng = np.random.default_rng(seed)
    truths = [{"image_id": i, "mask": rng.integers(0, 2, shape).astype(np.uint8)} for i in range(8)]
    results = [
        {"mask": np.where(rng.random(shape) < 0.1 * i, 1 - t["mask"], t["mask"])}
        for i, t in enumerate(truths)
    ]
    kind = DiceScore if len(shape) == 3 else MeanIoU
    return kind(NAMES, background=True), (results, truths)


KINDS = {
    "boxes": boxes,
    "masks": masks,
    "volumes": lambda seed=0: masks(seed, (6, 20, 24)),
    "categories": lambda seed=0: (Accuracy(NAMES), categories(seed)),
    "faces": lambda seed=0: (Verification([0.01]), faces(seed)),
}


def measured(metric: Any, data: Any, head: str = "x", source: str = "set") -> Measured:
    """A metric that has seen data."""
    metric.update(*data)
    values = {name: float(value) for name, value in metric.compute().items()}
    keys = {name: f"{head}/{name}" for name in values}
    return Measured(source, head, "m", metric, keys, {keys[n]: v for n, v in values.items()})


def maps_of(data: Any) -> dict[int, Any]:
    """The label maps that a run keeps of its masks."""
    results, truths = data
    return {
        truth["image_id"]: label_map(truth["mask"], result["mask"], truth["mask"].ndim)
        for result, truth in zip(results, truths, strict=True)
        if "mask" in result
    }


def write_image(file: Path, kind: str, rng: np.random.Generator) -> None:
    if kind == "volumes":
        import nibabel

        values = rng.normal(size=(24, 20, 6)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), file)
    else:
        noise = Image.fromarray(rng.integers(0, 255, (30, 32, 3), dtype=np.uint8))
        noise.resize(SIZE.get(kind, noise.size)).save(file)


def write_run(folder: Path, *kinds: str, seed: int = 0, images: bool = True) -> Path:
    """Writes a run folder whose heads are of these kinds, each on a data set of its own.

    Args:
        folder: Its images lie beside it, and are shared with other runs there.
        *kinds: See `KINDS`.
        seed: Of the evaluation.
        images: Whether there are images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    evaluation = Evaluation("test", [], {}, {})
    for number, kind in enumerate(kinds):
        source, head = (f"set{number}", f"x{number}") if number else ("set", "x")
        metric, data = KINDS[kind](seed)
        evaluation.measured.append(one := measured(metric, data, head, source))
        if found := maps_of(data):
            evaluation.maps[source, head] = found
        suffix = ".nii.gz" if kind == "volumes" else ".jpg"
        files = {
            i: folder.parent / f"{source}_{i}{suffix}" for i in one.metric.image_ids().tolist()
        }
        evaluation.paths[source] = {i: str(file) for i, file in files.items()}
        evaluation.groups[source] = {}
        for file in files.values():
            if images and not file.exists():
                write_image(file, kind, rng)
    write_evaluation(folder / "evaluation_test.npz", evaluation)
    _write_texts(folder, evaluation)
    return folder


def _write_texts(folder: Path, evaluation: Evaluation) -> None:
    several = len(evaluation.paths) > 1
    metrics: dict[str, Any] = {"stopped": "max_steps"}
    intervals = {}
    for one in evaluation.measured:
        for key, value in one.values.items():
            name = f"test/{one.data}/{key}" if several else f"test/{key}"
            metrics[name] = None if np.isnan(value) else value
            intervals[name] = [value - 0.01, value + 0.01]
    (folder / "metrics.json").write_text(json.dumps(metrics | {"intervals": intervals}))
    config = {
        "command": "train",
        "seed": 0,
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18},
        "data": {name: {"test": {"_target_": "densekit.data.Scenes"}} for name in ("other",)},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "run.json").write_text(json.dumps(RECORD))
    (folder / "csv").mkdir(exist_ok=True)
    (folder / "csv" / "metrics.csv").write_text(CSV)
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"0")
    (folder / "console.log").write_text(LOG)
