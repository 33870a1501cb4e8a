"""What an evaluation kept is measured again to the same numbers, and builds nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from densekit.evaluation import Evaluation, Measured, read_evaluation, write_evaluation
from densekit.metrics import (
    Accuracy,
    CalibrationError,
    CocoBoundaryMap,
    CocoMap,
    CocoMaskMap,
    DiceScore,
    Identification,
    MeanIoU,
    SurfaceDistances,
    Verification,
    VocMap,
)
from densekit.visualization.label_maps import LabelMap
from tests.unit.metrics.detection.scenes import masked, random_scene
from tests.unit.metrics.detection.test_resampled import categories, masks
from tests.unit.metrics.embedding.faces import scene

NAMES = ["cat", "dog"]
BOXES = random_scene(np.random.default_rng(0), 10, 2, crowd=0.1)


def evaluation(metric, data) -> Evaluation:
    metric.update(*data)
    values = metric.compute()
    keys = {name: f"x/{name}" for name in values}
    ids = metric.image_ids().tolist()
    measured = Measured("set", "x", "m", metric, keys)
    return Evaluation(
        "test", [measured], {"set": {i: f"{i}.png" for i in ids}}, {"set": {ids[0]: "patient"}}
    )


@pytest.mark.parametrize(
    ("metric", "data"),
    [
        (CocoMap(NAMES, max_detections=5), BOXES),
        (VocMap(NAMES, iou_thresholds=(0.5, 0.7)), BOXES),
        (CocoMaskMap(NAMES), masked(BOXES)),
        (CocoBoundaryMap(NAMES), masked(BOXES)),
        (MeanIoU(NAMES, background=True), masks(0)),
        (DiceScore(NAMES, background=True), masks(0)),
        (SurfaceDistances(NAMES, tolerance={"cat": 2.0, "dog": 1.0}), masks(0)),
        (Accuracy(NAMES), categories(0)),
        (CalibrationError(5), categories(0)),
        (Verification([0.01]), scene()),
        (Identification([1, 3]), scene()),
    ],
)
def test_metrics_are_measured_again_from_their_file(metric, data, tmp_path: Path) -> None:
    write_evaluation(tmp_path / "e.npz", evaluation(metric, data))
    again = read_evaluation(tmp_path / "e.npz")
    (one,) = again.measured
    wanted = {f"x/{name}": float(value) for name, value in metric.compute().items()}
    np.testing.assert_equal(one.values, wanted)
    assert type(one.metric) is type(metric)
    assert (again.stage, one.data, one.head, one.name) == ("test", "set", "x", "m")
    first = int(metric.image_ids()[0])
    assert again.paths["set"][first] == f"{first}.png"
    assert again.groups["set"][first] == "patient"


def test_a_metric_is_named_as_users_import_it(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "e.npz", evaluation(CocoMap(NAMES), BOXES))
    header = json.loads(np.load(tmp_path / "e.npz")["header"].tobytes())
    assert header["metrics"][0]["metric"]["_target_"] == "densekit.metrics.CocoMap"


def test_label_maps_are_kept(tmp_path: Path) -> None:
    one = evaluation(MeanIoU(NAMES), masks(0))
    maps = {3: LabelMap(b"three", None), -1: LabelMap(b"", 5)}
    one.maps = {("set", "x"): maps, ("set", "other"): {}}
    write_evaluation(tmp_path / "e.npz", one)
    assert read_evaluation(tmp_path / "e.npz").maps == one.maps


def changed(path: Path, **entries) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes())
    header["metrics"][0] |= entries
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "densekit.data.Scenes",
        "densekit.build.os.system",
        "torchmetrics.text.BERTScore",
        "unittest.mock.Mock",
    ],
)
def test_a_file_builds_metrics_alone(target: str, tmp_path: Path) -> None:
    file = tmp_path / "e.npz"
    write_evaluation(file, evaluation(Accuracy(NAMES), categories(0)))
    changed(file, metric={"_target_": target, "names": NAMES})
    with pytest.raises(ValueError, match="expected"):
        read_evaluation(file)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"{}", b"\x93NUMPY"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "e.npz"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"e\.npz: expected an evaluation of densekit"):
        read_evaluation(file)


def test_rows_of_another_metric_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "e.npz"
    write_evaluation(file, evaluation(Accuracy(NAMES), categories(0)))
    changed(file, metric={"_target_": "densekit.metrics.CocoMap", "names": NAMES})
    with pytest.raises(ValueError, match=r"e\.npz: expected an evaluation of densekit"):
        read_evaluation(file)


def test_rows_of_another_length_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "e.npz"
    write_evaluation(file, evaluation(Accuracy(NAMES), categories(0)))
    with np.load(file) as archive:
        arrays = dict(archive)
    arrays["0.rows"] = arrays["0.rows"][:-1]
    np.savez(file, **arrays)
    with pytest.raises(ValueError, match=r"e\.npz: expected an evaluation of densekit"):
        read_evaluation(file)
