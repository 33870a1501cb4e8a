"""What all readers have in common: a data set that knows its annotations but reads no image."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from densekit.app.doctor.facts import Defect, Example, Part
from densekit.data.protocols import Dataset
from densekit.types import Sample

_T = TypeVar("_T")


class Records(Dataset):
    """The annotations of a data set, in place of the class that would refuse some of them.

    It may be wrapped (`Split`, `Repeat`, `RandomSubset`) like the class itself.

    Attributes:
        examples: What is annotated for each image.
        defects: Records that could not be taken.
        facts: Further arguments of `Part` that describe the whole data set.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        defects: Sequence[Defect],
        classes: Sequence[str],
        ids: Sequence[int] = (),
        **facts: Any,
    ) -> None:
        self.examples = list(examples)
        self.defects = list(defects)
        self.facts: Mapping[str, Any] = {"classes": list(classes), "ids": list(ids), **facts}

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Sample:
        """Not available: files are opened by the scan."""
        raise TypeError(f"{type(self).__name__}: expected use by the doctor, which reads files")

    def describe(self) -> dict[str, Any]:
        """Names, ids and number of classes; declared channels of the images."""
        classes = list(self.facts["classes"])
        ids = list(self.facts["ids"]) or list(range(len(classes)))
        channels = self.facts.get("channels", Part.channels)
        return {"names": classes, "ids": ids, "num_classes": len(classes), "channels": channels}

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.examples[index].file


def parsed(path: Path, parse: Callable[[Path], _T], defects: list[Defect]) -> _T | None:
    """The content of an annotation file; None, and a defect, if it cannot be parsed."""
    try:
        return parse(path)
    except ValueError as error:
        message = str(error).removeprefix(f"{path}: ")
        defects.append(Defect("malformed-annotation-file", path, message))
        return None


def number(value: Any) -> float:
    """A number, NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")
