"""What the doctor knows of a data set, as plain values; checks are functions of it.

H, W the size of an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels, 0 = left edge."""


@dataclass(frozen=True)
class Picture:
    """What an image file holds.

    Attributes:
        kind: "" if it was read, else "missing", "empty", "broken" or "truncated".
        error: Why it cannot be read, empty if it can.
        format: Pillow's name of the format, such as "JPEG".
        mode: Pillow's mode as stored, such as "RGB".
        height: Of the upright image.
        width: Of the upright image.
        orientation: EXIF orientation, 1 to 8.
        frames: Number of frames or pages.
        bits: Bits per channel.
        channels: Number of channels.
        content: Digest of the pixels; equal for equal pixels in any lossless format.
        look: Perceptual hash in hexadecimal, empty where it means nothing.
        tones: 16 x 16 grey values in hexadecimal, to confirm what the hash suggests.
        low: The 5th percentile of the grey values.
        high: The 99th percentile.
        spread: Their standard deviation.
        sharpness: Variance of their Laplacian.
        grey: Whether a colour image shows greys only.
        clear: Whether every pixel is transparent.
    """

    kind: str = ""
    error: str = ""
    format: str = ""
    mode: str = ""
    height: int = 0
    width: int = 0
    orientation: int = 1
    frames: int = 1
    bits: int = 8
    channels: int = 3
    content: str = ""
    look: str = ""
    tones: str = ""
    low: float = 0.0
    high: float = 0.0
    spread: float = 0.0
    sharpness: float = 0.0
    grey: bool = False
    clear: bool = False


@dataclass(frozen=True)
class Mask:
    """What a mask file holds.

    Attributes:
        error: Why it cannot be read, empty if it can.
        missing: Whether the file does not exist.
        mode: How it is stored: Pillow's mode, such as "P".
        height: H.
        width: W.
        values: Stored value to number of pixels, at most 300 values.
        content: Digest of the values.
        lossy: Whether the format of the file changes values.
    """

    error: str = ""
    missing: bool = False
    mode: str = ""
    height: int = 0
    width: int = 0
    values: Mapping[int, int] = field(default_factory=dict)
    content: str = ""
    lossy: bool = False


@dataclass(frozen=True)
class Volume:
    """What a volume file, or a folder of DICOM slices, holds.

    Attributes:
        error: Why it cannot be read, empty if it can.
        missing: Whether the file does not exist.
        shape: Voxels along z, y, x.
        spacing: Millimetres between voxels along z, y, x.
        orientation: Directions of the stored axes, such as "RAS".
        affine: 16 numbers, row by row.
        channels: Number of channels.
        placed: Whether the file states its orientation.
        frames_differ: How sform and qform differ, empty if they agree.
        unit: Unit of length by the header, empty if it states none.
        series: Number of DICOM series in the folder, 0 for other formats.
        gap: Between which slices some are missing, empty if none are.
        infinite: Number of voxels that are NaN or infinite.
        low: The 0.5th percentile of the values.
        high: The 99.5th percentile.
        spread: Their standard deviation.
        fractions: Whether a value is not a whole number.
        values: For masks: stored value to number of voxels, at most 300 values.
        content: Digest of the voxels.
    """

    error: str = ""
    missing: bool = False
    shape: Sequence[int] = ()
    spacing: Sequence[float] = ()
    orientation: str = ""
    affine: Sequence[float] = ()
    channels: int = 1
    placed: bool = True
    frames_differ: str = ""
    unit: str = ""
    series: int = 0
    gap: str = ""
    infinite: int = 0
    low: float = 0.0
    high: float = 0.0
    spread: float = 0.0
    fractions: bool = False
    values: Mapping[int, int] = field(default_factory=dict)
    content: str = ""


@dataclass(frozen=True)
class Item:
    """One annotated object.

    Attributes:
        box: In the frame of the annotated image, not clipped.
        label: Class name.
        where: What messages call it, such as "annotation 17".
        crowd: Whether it is a region of many objects.
        difficult: VOC's flag.
        area: Annotated area in square pixels, None if there is none.
        outline: The box around its polygons, None without polygons.
        fault: What is wrong with its outline, empty if nothing is.
    """

    box: Box
    label: str
    where: str
    crowd: bool = False
    difficult: bool = False
    area: float | None = None
    outline: Box | None = None
    fault: str = ""


@dataclass(frozen=True)
class Example:
    """One image of a split, with what is annotated and what its files hold.

    Attributes:
        file: The image; a folder for DICOM.
        index: Position in its split.
        size: Annotated height and width, None if the annotation states none.
        annotation: The file with its annotation, None if there is none.
        items: Its objects, None for data without objects.
        mask_files: Its masks, one per class for multi-label masks; None where there is none.
        labels: Its category, categories or identity.
        group: The patient of a volume.
        files: All its volumes, one per channel; empty for pictures.
        sampled: Whether its sample has been read, so that no file needs to be.
        picture: What the image holds, None for volumes, series and before the scan.
        masks: What the masks hold.
        volumes: What the volumes hold.
        volume_masks: What the masks of the volumes hold.
    """

    file: Path
    index: int = 0
    size: tuple[int, int] | None = None
    annotation: Path | None = None
    items: tuple[Item, ...] | None = None
    mask_files: tuple[Path | None, ...] = ()
    labels: tuple[str, ...] = ()
    group: str = ""
    files: tuple[Path, ...] = ()
    sampled: bool = False
    picture: Picture | None = None
    masks: tuple[Mask, ...] = ()
    volumes: tuple[Volume, ...] = ()
    volume_masks: tuple[Volume, ...] = ()

    @property
    def read(self) -> Picture | None:
        """The picture, None if it could not be read."""
        return self.picture if self.picture is not None and not self.picture.kind else None

    @property
    def is_broken(self) -> bool:
        """Whether one of its files could not be read; nothing should open them again."""
        volumes = (*self.volumes, *self.volume_masks)
        errors = [*(mask.error for mask in self.masks), *(volume.error for volume in volumes)]
        return any(errors) or bool(self.picture and self.picture.kind)

    @property
    def frame(self) -> tuple[int, int] | None:
        """Height and width that boxes refer to: the annotated ones, else those of the image."""
        if self.size is not None:
            return self.size
        return None if self.read is None else (self.read.height, self.read.width)


@dataclass(frozen=True)
class Defect:
    """A record of an annotation file that could not be taken as it is.

    Attributes:
        check: Name of the check that reports it.
        file: The annotation file.
        message: What was expected and what was found.
        box: Where to look in the image, None for all of it.
        strength: How sure it is, 0 to 1, if it is a candidate.
    """

    check: str
    file: Path
    message: str
    box: Box | None = None
    strength: float = 0.0


@dataclass(frozen=True)
class Part:
    """One split.

    Attributes:
        name: Its name in messages, such as "train".
        examples: Its images.
        classes: Class names in the order of their labels; empty if the data have none.
        ids: The format's own id of each class.
        defects: Records that could not be taken.
        stored: How boxes are stored: "coco", "voc", "yolo" or "".
        kind: "boxes", "mask", "volume", "category", "identity" or "".
        closed: Whether its identities are those that training learns.
        channels: Declared number of channels.
        dtype: Declared type of the images, "uint8" or "float32".
        values: Stored value of a mask to class name; empty if unknown. "" is background or void.
        colours: Whether mask values are colours.
    """

    name: str
    examples: Sequence[Example]
    classes: Sequence[str] = ()
    ids: Sequence[int] = ()
    defects: Sequence[Defect] = ()
    stored: str = ""
    kind: str = ""
    closed: bool = True
    channels: int = 3
    dtype: str = "uint8"
    values: Mapping[int, str] = field(default_factory=dict)
    colours: bool = False


@dataclass(frozen=True)
class Study:
    """A data set with all its splits.

    Attributes:
        name: Its name in the configuration.
        parts: The splits by name.
        min_size: Shorter side that the network sees, None if images are not resized.
        max_size: Limit of the longer side.
    """

    name: str
    parts: Mapping[str, Part]
    min_size: int | None = None
    max_size: int | None = None

    def each(self) -> Iterator[tuple[Part, Example]]:
        """Every image with its split."""
        for part in self.parts.values():
            for example in part.examples:
                yield part, example

    def objects(self) -> Iterator[tuple[Part, Example, Item]]:
        """Every annotated object."""
        for part, example in self.each():
            for item in example.items or ():
                yield part, example, item
