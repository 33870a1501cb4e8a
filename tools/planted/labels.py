"""Defects of masks, of categories and identities, and of volumes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from densekit._extras import need
from planted.copies import Copy

Plant = Callable[[Copy], None]
nibabel = need("nibabel", "planting defects of volumes")


def _mask(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Plant:
    def plant(copy: Copy) -> None:
        file = copy.mask(copy.image())
        with Image.open(file) as mask:
            array = np.array(mask)
        Image.fromarray(change(array)).save(file)

    return plant


def _corner(value: int) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    def change(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        mask[:3, :3] = value
        return mask

    return change


def _smooth(copy: Copy) -> None:
    file = copy.mask(copy.image())
    with Image.open(file) as mask:
        small = mask.resize((mask.width // 2, mask.height // 2), Image.Resampling.BILINEAR)
        smooth = small.resize(mask.size, Image.Resampling.BICUBIC)
    smooth.save(file)


def _swap(copy: Copy) -> None:
    first, other = (copy.mask(image) for image in copy.two())
    shutil.copy(first, other)


def _image_as_mask(copy: Copy) -> None:
    image = copy.image()
    with Image.open(image) as picture:
        picture.convert("L").save(copy.mask(image))
        picture.convert("L").save(image, format="PNG")


def _mode(copy: Copy) -> None:
    file = copy.mask(copy.image())
    with Image.open(file) as mask:
        mask.convert("RGB").save(file)


def _all_masks(change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> Plant:
    def plant(copy: Copy) -> None:
        for image in copy.splits["train"]:
            file = copy.mask(image)
            with Image.open(file) as mask:
                array = np.array(mask)
            Image.fromarray(change(array)).save(file)

    return plant


def _one_more(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(mask == 255, 255, mask + 1).astype(np.uint8)


def _other_class(copy: Copy) -> None:
    image = copy.image()
    other = next(f for f in copy.splits["train"] if f.parent != image.parent)
    shutil.copy(image, other.with_name(f"planted{image.suffix}"))


def _shared_identity(copy: Copy) -> None:
    copy.node["test"]["data"]["identities"] += ["s1"]


def _single(copy: Copy) -> None:
    for file in sorted((copy.root / "s1").iterdir())[1:]:
        file.unlink()


def _crowded(copy: Copy) -> None:
    image = copy.root / "s1" / "1.png"
    pixels = np.asarray(Image.open(image))
    for number in range(30):
        noise = copy.rng.normal(0, 60, pixels.shape)
        changed = (pixels + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(changed).save(image.with_name(f"more_{number}.png"))


def _volume(
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    *,
    mask: bool = False,
    affine: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda a: a,
    placed: bool = True,
    unit: str = "",
) -> Plant:
    def plant(copy: Copy) -> None:
        image = copy.image()
        file = copy.mask(image) if mask else image
        old = nibabel.load(file)
        data = change(np.asarray(old.dataobj, dtype=np.float32))
        new = nibabel.Nifti1Image(data, affine(old.affine))
        new.header.set_xyzt_units(unit or "mm")
        if not placed:
            new.set_sform(None, 0)
            new.set_qform(None, 0)
        nibabel.save(new, file)

    return plant


def _two_frames(copy: Copy) -> None:
    file = copy.image()
    old = nibabel.load(file)
    new = nibabel.Nifti1Image(np.asarray(old.dataobj), old.affine)
    new.set_qform(np.diag([-1.0, -1.0, 1.0, 1.0]) @ old.affine, 1)
    new.set_sform(old.affine, 1)
    nibabel.save(new, file)


def _cut(copy: Copy) -> None:
    file = copy.image()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _nan(values: NDArray[np.float32]) -> NDArray[np.float32]:
    values[0] = np.nan
    return values


def _double(copy: Copy) -> None:
    first, other = copy.two()
    shutil.copy(first, other)


def _gap(copy: Copy) -> None:
    files = sorted(copy.image().iterdir(), key=lambda file: file.name)
    _middle(files).unlink()


def _middle(files: list[Path]) -> Path:
    import pydicom

    heights = {f: float(pydicom.dcmread(f).ImagePositionPatient[2]) for f in files}
    return sorted(files, key=heights.__getitem__)[len(files) // 2]


def _two_series(copy: Copy) -> None:
    import pydicom

    folder = copy.image()
    for file in sorted(folder.iterdir()):
        header = pydicom.dcmread(file)
        header.SeriesInstanceUID = "1.2.3.4"
        header.save_as(file.with_name(f"other_{file.name}"))


def _patients(copy: Copy) -> None:
    """The same folder as training and validation data."""
    copy.node["val"] = dict(copy.node["train"])


def _same(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values


def _stretched(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return affine @ np.diag([1.0, 1.0, 9.0, 1.0])


def _mirrored(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return affine @ np.diag([-1.0, 1.0, 1.0, 1.0])


def _moved(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    moved = affine.copy()
    moved[:3, 3] += 4
    return moved


PLANTS: dict[str, tuple[tuple[str, ...], Plant]] = {
    "missing-mask": (("masks",), lambda copy: copy.mask(copy.image()).unlink()),
    "broken-mask": (("masks",), lambda copy: _broken(copy.mask(copy.image()))),
    "mask-size-mismatch": (("masks",), _mask(lambda mask: mask[:-8])),
    "unknown-mask-value": (("camvid",), _mask(_corner(77))),
    "empty-mask": (("isbi2012",), _mask(lambda mask: np.full_like(mask, 255))),
    "void-mask": (("camvid",), _mask(lambda mask: np.full_like(mask, 255))),
    "single-class-mask": (("camvid",), _mask(lambda mask: np.full_like(mask, 3))),
    "smoothed-mask": (("isbi2012",), _smooth),
    "mixed-mask-modes": (("masks",), _mode),
    "repeated-mask": (("masks",), _swap),
    "mask-is-image": (("isbi2012",), _image_as_mask),
    "inverted-mask": (("isbi2012",), _mask(lambda mask: 255 - mask)),
    "mask-values-off-by-one": (
        ("camvid",),
        _all_masks(_one_more),
    ),
    "contradicting-labels": (("folders", "people"), _other_class),
    "identity-in-two-splits": (("people",), _shared_identity),
    "single-image-identity": (("people",), _single),
    "uneven-identity": (("people",), _crowded),
    "missing-volume": (("volumes",), lambda copy: copy.image().unlink()),
    "broken-volume": (("volumes",), _cut),
    "mixed-orientations": (("volumes",), _volume(_same, affine=_mirrored)),
    "spacing-outlier": (("volumes",), _volume(_same, affine=_stretched)),
    "anisotropic-volume": (("volumes",), _volume(_same, affine=_stretched)),
    "volume-size-outlier": (("volumes",), _volume(lambda v: np.tile(v, (3, 3, 3)))),
    "orientation-unknown": (("volumes",), _volume(_same, placed=False)),
    "mixed-units": (("volumes",), _volume(_same, unit="micron")),
    "frames-differ": (("volumes",), _two_frames),
    "voxels-not-finite": (("volumes",), _volume(_nan)),
    "constant-volume": (("volumes",), _volume(lambda v: v * 0 + 7)),
    "mixed-channels": (("volumes",), _volume(lambda v: np.stack([v, v], axis=-1))),
    "mixed-scales": (("volumes",), _volume(lambda v: v - v.mean())),
    "volume-mask-size": (("volumes",), _volume(lambda v: v[:-2], mask=True)),
    "volume-mask-moved": (("volumes",), _volume(_same, mask=True, affine=_moved)),
    "mask-with-fractions": (("volumes",), _volume(lambda v: v * 0.5, mask=True)),
    "unknown-volume-label": (("volumes",), _volume(lambda v: v * 7, mask=True)),
    "empty-volume-mask": (("volumes",), _volume(lambda v: v * 0, mask=True)),
    "duplicate-image": (("volumes",), _double),
    "missing-slices": (("dicom",), _gap),
    "mixed-series": (("dicom",), _two_series),
    "patient-in-two-splits": (("volumes", "dicom"), _patients),
    "file-in-two-splits": (("volumes", "dicom"), _patients),
}
"""Check to the kinds (or names) of data sets that its defect is planted in, and the planting."""


def _broken(file: Path) -> None:
    file.write_bytes(b"no image")
