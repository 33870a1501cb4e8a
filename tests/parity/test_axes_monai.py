"""Volumes in a declared orientation against MONAI's `Orientation`."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import Orientation

from densekit.data import MedicalVolumes
from tests.unit.data.medical_files import AFFINE, UPRIGHT, write_msd

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
@pytest.mark.parametrize("affine", [AFFINE, UPRIGHT], ids=["ALS", "RAS"])
def test_turned_volumes(tmp_path: Path, orientation: str, affine: np.ndarray) -> None:
    root = write_msd(tmp_path, 1, affine=affine)
    image = MedicalVolumes(root, orientation=orientation)[0]["image"][..., 0]
    stored = nibabel.load(root / "imagesTr" / "case_00.nii.gz")
    tensor = MetaTensor(np.asarray(stored.dataobj)[None], affine=stored.affine)
    turn = Orientation(axcodes=orientation, labels=(("L", "R"), ("P", "A"), ("I", "S")))
    np.testing.assert_array_equal(image, turn(tensor)[0].numpy().T)
