"""Small NIfTI and DICOM studies that the tests of medical data write."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

AFFINE = np.array([[0.0, -0.7, 0.1, 5], [1.1, 0, 0, -7], [0, 0.05, 2.5, 11], [0, 0, 0, 1]])
"""Axes swapped, mirrored and a little oblique: "ALS"."""

UPRIGHT = np.array([[1.1, 0, 0.1, 5], [0, 0.7, 0, -7], [0, 0.05, 2.5, 11], [0, 0, 0, 1]])
"""As oblique and of the same spacing, but "RAS": volumes are not turned when they are read."""

SIDEWAYS = (0.0, 0.98623243, -0.16536502)
FORWARD = (-1.0, 0.0, 0.0)


def write_nifti(path, data, affine=AFFINE, **header):
    """Data by (x, y, z[, C])."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = nibabel.Nifti1Image(data, affine)
    for key, value in header.items():
        file.header[key] = value
    nibabel.save(file, path)
    return path


def write_slice(path, pixels, position, **tags):
    """One classic MR slice; a tag set to None is left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset = _dataset(path, pixels.shape[-2:])
    values = {
        "SeriesInstanceUID": "1.2.3",
        "SeriesDescription": "T1",
        "ImagePositionPatient": [float(v) for v in position],
        "ImageOrientationPatient": [*SIDEWAYS, *FORWARD],
        "PixelSpacing": [0.8, 0.5],
        "SliceThickness": 3.0,
    }
    for key, value in (values | tags).items():
        if value is not None:
            setattr(dataset, key, value)
    dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
    dataset.save_as(path)
    return path


def write_series(folder, volume, gap=2.5, places=None, **tags):
    """A series whose file names run against the anatomy; (z, y, x) uint16 values."""
    normal = np.cross(SIDEWAYS, FORWARD)
    places = [gap * i for i in range(len(volume))] if places is None else places
    for i, (pixels, place) in enumerate(zip(volume, places, strict=True)):
        name = f"{len(volume) - i:03d}.dcm"
        write_slice(folder / name, pixels, np.array([10.0, 20, 30]) + normal * place, **tags)
    return folder


def write_enhanced(path, volume, order):
    """One multi-frame object whose frames stand in the given order; intercept a frame."""
    dataset = _dataset(path, volume.shape[1:])
    normal = np.cross(SIDEWAYS, FORWARD)
    dataset.SeriesInstanceUID = "1.2.4"
    dataset.NumberOfFrames = len(order)
    shared = Dataset()
    shared.PlaneOrientationSequence = [Dataset()]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [*SIDEWAYS, *FORWARD]
    shared.PixelMeasuresSequence = [Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.5]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for place in order:
        frame = Dataset()
        frame.PlanePositionSequence = [Dataset()]
        frame.PlanePositionSequence[0].ImagePositionPatient = [*(normal * place * 2.0)]
        frame.PixelValueTransformationSequence = [Dataset()]
        frame.PixelValueTransformationSequence[0].RescaleSlope = 2
        frame.PixelValueTransformationSequence[0].RescaleIntercept = -place
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.PixelData = np.ascontiguousarray(volume[list(order)]).tobytes()
    dataset.save_as(path)
    return path


def _dataset(path, size):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = size
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 0
    return dataset


def write_msd(root, count=6, shape=(5, 6, 7), values=(0, 1, 2), affine=UPRIGHT):
    """A Decathlon folder: case_00 ... with classes of the given stored values."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(count):
        name = f"case_{i:02d}.nii.gz"
        image = rng.normal(100 * i, 10, shape).astype(np.float32)
        mask = rng.choice(np.asarray(values, dtype=np.uint8), shape)
        write_nifti(root / "imagesTr" / name, image, affine)
        write_nifti(root / "labelsTr" / name, mask, affine)
        rows.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    names = ["background", *(f"part {v}" for v in values[1:])]
    labels = {str(v): name for v, name in zip(values, names, strict=True)}
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "training": rows}))
    return root


PATIENTS = ("BraTS20_Training_001", "BraTS20_Training_002", "BraTS20_Training_010")


def brats(root, prefixed=True, suffix=".nii.gz", inner=""):
    """A folder for each patient with four sequences and a mask."""
    rng = np.random.default_rng(0)
    for patient in PATIENTS:
        for name in ("flair", "t1", "t1ce", "t2", "seg"):
            values = rng.normal(size=(4, 5, 6)).astype(np.float32)
            values = values if name != "seg" else (values > 1).astype(np.uint8) * 4
            file = f"{patient}_{name}{suffix}" if prefixed else f"{name}{suffix}"
            write_nifti(root / inner / patient / file, values, UPRIGHT)
    return root
