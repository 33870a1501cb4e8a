"""What things are called on the page: classes, heads, images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densekit._names import readable
from densekit.evaluation import Measured
from densekit.metrics.segmentation.mask_metric import MaskMetric


def class_names(metric: Any) -> list[str]:
    """The class names of a metric, empty without."""
    names = getattr(metric, "names", ())
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def of_class(one: Measured, name: str) -> tuple[str, str] | None:
    """Splits the name of a value into what it measures and the class; None for all classes."""
    prefix, slash, rest = name.partition("/")
    return (prefix, rest) if slash and rest in class_names(one.metric) else None


def drawn_classes(metric: MaskMetric) -> Mapping[int, str]:
    """Value of a mask (or bit, if multi-label) to the name of each class that is drawn."""
    if len(metric.names) == 1 and not metric.multilabel:
        return {1: metric.names[0]}
    return dict(list(enumerate(metric.names))[int(metric.background) :])


def title(one: Measured, measured: list[Measured]) -> str:
    """How a head is called on the page: with its data set if there are several."""
    several = len({other.data for other in measured}) > 1
    return f"{one.head} on {one.data}" if several else one.head


class ImageNames:
    """What the images of a data set are called: by file, with its folder where files share a name.

    Args:
        paths: Of the images by id.
    """

    def __init__(self, paths: Mapping[int, str]) -> None:
        self._paths = {image: Path(path) for image, path in paths.items() if path}
        self._counts = Counter(path.name for path in self._paths.values())

    def of(self, image_id: int, slice_: int | None = None) -> str:
        """The name of an image, or of a slice of a volume."""
        path = self._paths.get(image_id)
        if path is None:
            name = str(image_id)
        else:
            name = "/".join(path.parts[-2 if self._counts[path.name] > 1 else -1 :])
        return readable(name) if slice_ is None else f"{readable(name)}, slice {slice_}"
