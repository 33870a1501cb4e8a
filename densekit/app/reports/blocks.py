"""What the page is made of: sections of blocks, plain data that the template draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from densekit.metrics.analyses import Bars, Curves, Matrix, Table

Box = tuple[float, float, float, float]
"""xyxy in pixels of the original image."""


@dataclass(frozen=True)
class Note:
    """A sentence; `command` is what makes that which it says is missing."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Card:
    """A number that is read first.

    Attributes:
        label: What it is.
        value: None if it has no value.
        ends: Of its 95 % interval, if it has one.
        detail: Where it was measured.
    """

    label: str
    value: float | None
    ends: tuple[float, float] | None
    detail: str


@dataclass(frozen=True)
class Cards:
    """The numbers that are read first."""

    cards: Sequence[Card]


@dataclass(frozen=True)
class Facts:
    """Names and values, such as versions."""

    title: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Text:
    """A file to unfold."""

    title: str
    text: str


@dataclass(frozen=True)
class ImageKey:
    """An image of an evaluation, or a part of it.

    Attributes:
        data: Name of the data set.
        image_id: Its id there.
        slice: Of a volume, which slice of its first axis is shown.
        region: What is shown of it; None for all.
        file: The picture's file, for one that is no image of an evaluation.
    """

    data: str
    image_id: int
    slice: int | None = None
    region: Box | None = None
    file: str = ""


@dataclass(frozen=True)
class View:
    """An image and what is drawn on it.

    Attributes:
        image: The image.
        title: What the view shows, if a picture has several.
        truth: Annotated boxes, each with its label.
        found: Predicted boxes, each with label and score.
        masks: PNG of `densekit.visualization.label_maps`, empty without masks.
        marked: A box to look at.
    """

    image: ImageKey
    title: str = ""
    truth: Sequence[tuple[Box, int]] = ()
    found: Sequence[tuple[Box, int, float]] = ()
    masks: bytes = b""
    marked: Box | None = None


@dataclass(frozen=True)
class Picture:
    """Views that are read together, and what stands below them."""

    views: Sequence[View]
    name: str
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Pictures in the order in which they are read.

    Attributes:
        title: What they are.
        about: What a reader must know, a sentence or two.
        pictures: The pictures.
        classes: Class names by label of the boxes, or by value (bit if `bits`) of the masks.
        bits: Whether the values of masks are sums of bits, one per class.
        thresholds: Score from which predicted boxes of each label are drawn at first, where it was
            measured; 0.5 for others.
    """

    title: str
    about: str
    pictures: Sequence[Picture]
    classes: Mapping[int, str]
    bits: bool = False
    thresholds: Mapping[int, float] = field(default_factory=dict)


Block = Note | Cards | Facts | Text | Table | Curves | Bars | Matrix | Gallery


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading."""

    title: str
    blocks: Sequence[Block]
