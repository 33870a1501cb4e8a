"""MetaImage, NRRD, NIfTI pairs and Analyze are read as the same volume as NIfTI."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest

from densekit.data import MedicalVolumes, read_volume, write_mask
from densekit.data.medical.axes import axes_to
from densekit.data.medical.volumes import read_grid
from tests.unit.data.medical_files import AFFINE, UPRIGHT, write_nifti

VALUES = np.random.default_rng(0).integers(-999, 999, (5, 6, 7), dtype=np.int16)
LPS = np.diag([-1.0, -1, 1, 1])
OBLIQUE = np.array([[0.0, -0.7, 0, 5], [1.1, 0, 0, -7], [0, 0, 2.5, 11], [0, 0, 0, 1]])
"""At right angles, as ITK needs it: "ALS"."""


def itk_image(values=VALUES, affine=OBLIQUE, vector=False):
    import SimpleITK

    image = SimpleITK.GetImageFromArray(values.T if not vector else values, isVector=vector)
    lps = LPS @ affine
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(steps.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / steps).ravel().tolist())
    return image


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("affine", [OBLIQUE, np.diag([2.0, 1, 3, 1])], ids=["ALS", "RAS"])
def test_itk_files_lie_where_nifti_does(tmp_path, name, affine):
    import SimpleITK

    SimpleITK.WriteImage(itk_image(affine=affine), str(tmp_path / name), name == "a.mha")
    volume = read_volume(tmp_path / name)
    expected = read_volume(write_nifti(tmp_path / "b.nii", VALUES, affine))
    np.testing.assert_array_equal(volume.image, expected.image)
    np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-6)
    assert volume.spacing == pytest.approx(expected.spacing)
    assert axes_to(volume, "RAS") == axes_to(expected, "RAS")
    # and as ITK itself converts it
    SimpleITK.WriteImage(itk_image(affine=affine), str(tmp_path / "c.nii.gz"))
    np.testing.assert_allclose(read_volume(tmp_path / "c.nii.gz").affine, volume.affine, atol=1e-5)
    mask = (volume.image[..., 0] > 0).astype(np.uint8)
    write_mask(tmp_path / "m.nii.gz", mask, volume)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj), VALUES > 0)


def test_itk_channels(tmp_path):
    import SimpleITK

    pair = np.stack([VALUES.T, VALUES.T * 2], axis=-1)
    SimpleITK.WriteImage(itk_image(pair, vector=True), str(tmp_path / "v.mha"))
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.moveaxis(pair, -1, 0), isVector=False),
        str(tmp_path / "f.mha"),
    )
    for name in ("v.mha", "f.mha"):
        volume = read_volume(tmp_path / name)
        assert volume.channels == read_grid(tmp_path / name).channels == 2
        np.testing.assert_array_equal(volume.image, pair)
    flat = SimpleITK.GetImageFromArray(VALUES[..., 0].T.copy())
    SimpleITK.WriteImage(flat, str(tmp_path / "flat.mha"))
    np.testing.assert_array_equal(
        read_volume(tmp_path / "flat.mha").image[0, ..., 0], VALUES[..., 0].T
    )
    odd = SimpleITK.GetImageFromArray(np.zeros((3, 4, 5), np.complex64))
    SimpleITK.WriteImage(odd, str(tmp_path / "odd.nrrd"))
    with pytest.raises(ValueError, match=r"odd\.nrrd: .* of complex"):
        read_grid(tmp_path / "odd.nrrd")


NRRD = (
    "NRRD0004\ntype: short\ndimension: 3\n{space}sizes: 5 6 7\n{frame}endian: little\n"
    "encoding: raw\n{origin}\n"
)
DIRECTIONS = "space directions: (2,0,0) (0,1,0) (0,0,3)\n"


@pytest.mark.parametrize(
    ("space", "affine"),
    [
        ("right-anterior-superior", np.diag([2.0, 1, 3, 1])),
        ("left-posterior-superior", np.diag([-2.0, -1, 3, 1])),
        ("left-anterior-superior", np.diag([-2.0, 1, 3, 1])),
    ],
)
def test_spaces_of_nrrd(tmp_path, space, affine):
    header = NRRD.format(
        space=f"space: {space}\n", frame=DIRECTIONS, origin="space origin: (0,0,0)\n"
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + VALUES.tobytes("F"))
    volume = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(volume.image[..., 0], VALUES.T)
    np.testing.assert_allclose(volume.affine, affine, atol=1e-12)
    assert volume.is_placed


def test_files_that_do_not_say_how_they_lie(tmp_path):
    header = NRRD.format(space="", frame="spacings: 2 1 3\n", origin="")
    (tmp_path / "a.nrrd").write_bytes(header.encode() + VALUES.tobytes("F"))
    lines = "ObjectType = Image\nNDims = 3\nDimSize = 5 6 7\nElementType = MET_SHORT\n"
    text = f"{lines}ElementSpacing = 2 1 3\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(text.encode() + VALUES.tobytes("F"))
    nibabel.save(nibabel.AnalyzeImage(VALUES, np.diag([-2.0, 1, 3, 1])), tmp_path / "a.img")
    for name in ("a.nrrd", "a.mha", "a.hdr", "a.img"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.image[..., 0], VALUES.T)
        assert volume.spacing == pytest.approx((3, 1, 2))
        assert not volume.is_placed
        with pytest.raises(ValueError, match=f"{name}: expected an orientation"):
            axes_to(volume, "RAS")
        write_mask(tmp_path / "m.nii", np.ones(volume.shape, np.uint8), volume)
        header = nibabel.load(tmp_path / "m.nii").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)
        assert header.get_zooms() == pytest.approx((2, 1, 3))


@pytest.mark.parametrize("name", ["a.hdr", "a.img"])
def test_nifti_pairs(tmp_path, name):
    nibabel.save(nibabel.Nifti1Pair(VALUES, AFFINE), tmp_path / "a.img")
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(volume.image[..., 0], VALUES.T)
    np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-6)
    write_mask(tmp_path / "m.nii.gz", np.ones(volume.shape, np.uint8), volume)
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(written.affine, nibabel.load(tmp_path / "a.img").affine)


def test_a_data_set_of_mixed_formats(tmp_path):
    import SimpleITK

    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        values = VALUES if kind == "images" else (VALUES > 0).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Pair(values, UPRIGHT), tmp_path / kind / "a.img")
        SimpleITK.WriteImage(itk_image(values), str(tmp_path / kind / "b.nrrd"))
        (tmp_path / kind / "._b.nrrd").write_bytes(b"Mac OS X")
    data = MedicalVolumes(tmp_path, labels={"background": 0, "part": 1})
    assert [case.name for case in data.cases] == ["a", "b"]
    np.testing.assert_array_equal(data[1]["truth"]["mask"], VALUES.T > 0)
