"""Images of every kind that data sets read become pictures; those that cannot say why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from densekit.app.reports.blocks import ImageKey
from densekit.app.reports.folder import Run
from densekit.app.reports.pictures import SIDE, Pictures, Pixmap
from densekit.evaluation import Evaluation
from tests.unit.data.medical_files import write_series

STEPS = np.arange(20 * 30).reshape(20, 30)


def deep_png(file: Path) -> Path:
    cv2.imwrite(str(file := file.with_suffix(".png")), (STEPS * 100).astype(np.uint16))
    return file


def stack(file: Path) -> Path:
    np.save(file := file.with_suffix(".npy"), np.stack([STEPS] * 5, axis=-1).astype(np.float32))
    return file


def nifti(file: Path) -> Path:
    volume = np.stack([STEPS.T * 0, STEPS.T, STEPS.T * 0], axis=-1).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), file := file.with_suffix(".nii.gz"))
    return file


def dicom(folder: Path) -> Path:
    write_series(folder, np.stack([STEPS * 0, STEPS, STEPS * 0]).astype(np.int16))
    return folder


def of(path: Path, key: ImageKey) -> Pixmap:
    evaluation = Evaluation("test", [], {"set": {0: str(path)}}, {"set": {}})
    return Pictures(Run(path.parent, {}, {}, {}, {}, "", evaluation)).of(key)


@pytest.mark.parametrize(
    ("write", "slice_"), [(deep_png, None), (stack, None), (nifti, 1), (dicom, 1)]
)
def test_every_kind(write: Callable[[Path], Path], slice_: int | None, tmp_path: Path) -> None:
    found = of(write(tmp_path / "image"), ImageKey("set", 0, slice_))
    assert found.frame == (0, 0, 30, 20)
    grey = np.asarray(found.picture)[..., 0].astype(int)
    assert grey[0, 0] < grey[10, 0] < grey[-1, -1]


def test_a_region_and_a_large_image(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    cv2.imwrite(str(file), np.tile(STEPS.astype(np.uint8), (50, 50)))  # 1000 x 1500
    whole = of(file, ImageKey("set", 0))
    assert whole.picture is not None
    assert max(whole.picture.size) == SIDE
    assert whole.frame == (0, 0, 1500, 1000)
    part = of(file, ImageKey("set", 0, region=(-20.0, 900.0, 60.0, 1200.0)))
    assert part.frame == (0, 900, 60, 100)
    outside = of(file, ImageKey("set", 0, region=(5e9, 5e9, 6e9, 6e9)))
    assert outside.frame == (1499, 999, 1, 1)


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no")
    assert of(tmp_path / "broken.png", ImageKey("set", 0)).reason == "image not readable"
    assert of(tmp_path / "gone.png", ImageKey("set", 0)).reason == "image not found"
    assert of(tmp_path / "gone.png", ImageKey("set", 7)).reason == "image not found"
