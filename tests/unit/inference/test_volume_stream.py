"""Streamed volumes: equal to those in memory, and in memory that does not grow with them."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from densekit import Predictor
from densekit.data.medical import nifti
from densekit.data.medical.volumes import read_channels
from densekit.inference import CleanUp, SlidingWindow, predict_volume
from tests.unit.inference.segmenter import pixels, tiny_segmenter

PROJECT = Path(__file__).parents[3]
TURNED = np.array([[0, 0, 2.0, 5], [-1.5, 0, 0, 3], [0, 1.0, 0, 1], [0, 0, 0, 1]])
"""Axes permuted, and one reversed, against the body."""


def stored(folder: Path, name: str, affine: Any = TURNED, seed: int = 0) -> Path:
    """A volume of integers with slope and intercept, (x, y, z) = (21, 17, 40)."""
    values = pixels(1, 40, 17, 21, seed=seed)[0].numpy().transpose(2, 1, 0)
    image = nib.Nifti1Image(values.astype(np.int16), affine)
    image.header.set_slope_inter(0.7, -3)
    nib.save(image, folder / name)
    return folder / name


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nifti, "SLAB", 1000)


@pytest.mark.parametrize("suffix", ["nii", "nii.gz"])
@pytest.mark.parametrize("kind", ["zscore", "percentile", None])
@pytest.mark.parametrize("window", [[16, 16, 16], [24, 8, 16]])
def test_equal_to_the_prediction_in_memory(
    tmp_path: Path, suffix: str, kind: str | None, window: list[int]
) -> None:
    info = {"intensity": {"kind": kind} if kind else None, "orientation": "RAS"}
    model = tiny_segmenter(dims=3, channels=2, dtype="float32", **info)
    predictor = Predictor(model, inferer=SlidingWindow(window, batch_size=3))
    paths = [stored(tmp_path, f"{n}.{suffix}", seed=n) for n in range(2)]
    whole = read_channels(paths)
    volume, results = predict_volume(predictor, paths, tmp_path)
    wanted = predictor(whole)[0]["segmentation"]
    found = results["segmentation"]
    assert len(np.unique(wanted["mask"])) > 1
    np.testing.assert_array_equal(volume.image, whole.image)
    np.testing.assert_array_equal(found["mask"], wanted["mask"])
    assert found["names"] == wanted["names"]


def test_multilabel_and_small_volumes(tmp_path: Path) -> None:
    model = tiny_segmenter(dims=3, multilabel=True, dtype="float32")
    predictor = Predictor(model, inferer=SlidingWindow([64, 16, 16]))
    path = stored(tmp_path, "a.nii", np.eye(4))
    _, results = predict_volume(predictor, [path], tmp_path)
    wanted = predictor(path)[0]["segmentation"]["mask"]
    assert wanted.ndim == 4
    np.testing.assert_array_equal(results["segmentation"]["mask"], wanted)


def test_what_cannot_be_streamed_says_why(tmp_path: Path) -> None:
    model, path = tiny_segmenter(dims=3, dtype="float32"), stored(tmp_path, "a.nii")
    inferer = CleanUp(SlidingWindow([16, 16, 16]), min_size=5)
    with pytest.raises(ValueError, match=r"a\.nii: expected .* streamed, got inferer CleanUp"):
        predict_volume(Predictor(model, inferer=inferer), [path], tmp_path)
    model = tiny_segmenter(dims=3, dtype="float32", spacing=[1.0, 1.0, 1.0])
    predictor = Predictor(model, inferer=SlidingWindow([16, 16, 16]))
    with pytest.raises(ValueError, match=r"got resampling to another spacing"):
        predict_volume(predictor, [path], tmp_path)


@pytest.mark.parametrize(("cut", "value"), [(500, 1.0), (0, np.nan)])
def test_damaged_volumes_are_named(tmp_path: Path, cut: int, value: float) -> None:
    values = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    values[3, 3, 3] = value
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii.gz")
    content = (tmp_path / "a.nii.gz").read_bytes()
    half = len(content) // 2
    (tmp_path / "a.nii.gz").write_bytes(content[:half] + bytes(cut) + content[half + cut :])
    model = tiny_segmenter(dims=3, dtype="float32")
    predictor = Predictor(model, inferer=SlidingWindow([16, 16, 16]))
    with pytest.raises(ValueError, match=r"a\.nii\.gz: expected"):
        predict_volume(predictor, [tmp_path / "a.nii.gz"], tmp_path)


def test_a_full_disk_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    model = tiny_segmenter(dims=3, dtype="float32")
    predictor = Predictor(model, inferer=SlidingWindow([16, 16, 16]))
    with pytest.raises(OSError, match=r"No space left on device: '.*stored'"):
        predict_volume(predictor, [stored(tmp_path, "a.nii")], tmp_path)


@pytest.mark.slow
def test_memory_is_that_of_a_slab(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.inference.volume_memory", "320", "200"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    # The logits of the whole volume alone would be 240 MB, those of a row of windows are 12.
    assert all(isinstance(measured[name], int) for name in ("large.nii", "large.nii.gz")), measured
    assert "Error" in str(measured["in memory"]), measured
