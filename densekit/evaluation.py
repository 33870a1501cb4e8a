"""What an evaluation kept of every image, in one file: metrics are measured again from it.

The file is a NumPy archive without pickle: the rows of each metric (`RowMetric.computed_rows`), and
a JSON header with the metrics' classes and arguments, and the path and group of every image.
Metrics over masks keep numbers alone, so small label maps stand beside their rows, to be drawn.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._archives import MAX_TEXT, check_archive
from densekit._files import replacing
from densekit.build import instantiate
from densekit.metrics.rows import RowMetric
from densekit.trust import check_stored
from densekit.visualization.label_maps import LabelMap

FORMAT = 1
HEADER = "header"
Maps = dict[tuple[str, str], dict[int, LabelMap]]
"""Data set and head to image id to the label map of the image."""


@dataclass
class Measured:
    """One metric of one head on one data set.

    Attributes:
        data: Name of the data set.
        head: Name of the head.
        name: Name of the metric.
        metric: Computed.
        keys: Name of each of its values to the logged name without the stage.
        values: The values by that name.
    """

    data: str
    head: str
    name: str
    metric: RowMetric
    keys: dict[str, str]
    values: dict[str, float] = field(default_factory=dict)


@dataclass
class Evaluation:
    """An evaluation of a model on a split.

    Attributes:
        stage: "val" or "test".
        measured: Its metrics that keep rows.
        paths: Name of the data set to image id to the image's path.
        groups: Likewise to what an image is drawn with that is not drawn by itself, see
            `densekit.metrics.bootstrap`.
        maps: What was annotated and predicted, of heads that predict masks.
    """

    stage: str
    measured: list[Measured]
    paths: dict[str, dict[int, str]]
    groups: dict[str, dict[int, str]]
    maps: Maps = field(default_factory=dict)


def write_evaluation(path: str | Path, evaluation: Evaluation) -> None:
    """Writes an evaluation; metrics whose arguments are not plain values are left out."""
    kept = [one for one in evaluation.measured if _is_plain(one.metric.arguments())]
    arrays = {
        f"{place}.{state}": values
        for place, one in enumerate(kept)
        for state, values in one.metric.computed_rows().items()
    }
    arrays |= _packed(evaluation.maps)
    header = {
        "format": FORMAT,
        "stage": evaluation.stage,
        "metrics": [_described(one) for one in kept],
        "images": {
            source: [
                [image, path, evaluation.groups[source].get(image)] for image, path in of.items()
            ]
            for source, of in evaluation.paths.items()
        },
        "maps": list(evaluation.maps),
    }
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    # Only what is small may be compressed: readers refuse archives that unpack to far more.
    small = len(text) + sum(values.nbytes for values in arrays.values()) < MAX_TEXT
    with replacing(path) as part, part.open("wb") as file:
        save = np.savez_compressed if small else np.savez
        save(file, allow_pickle=False, **{HEADER: text}, **arrays)


def read_evaluation(path: str | Path, trust: Sequence[str] = ()) -> Evaluation:
    """Reads an evaluation and computes its metrics.

    Args:
        path: File of `write_evaluation`.
        trust: Packages besides densekit and installed plug-ins whose metrics may be built.

    Raises:
        ValueError: The file is no evaluation, damaged, or names a class that it may not build.
    """
    arrays = _arrays(path)
    try:
        header = json.loads(arrays.pop(HEADER).tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']} instead of {FORMAT}")
        measured = [
            _measured(described, _float_rows(arrays, place), f"metrics[{place}]", trust)
            for place, described in enumerate(header["metrics"])
        ]
        images = header["images"].items()
        return Evaluation(
            stage=str(header["stage"]),
            measured=measured,
            paths={source: {int(i): str(p) for i, p, _ in of} for source, of in images},
            groups={s: {int(i): str(g) for i, _, g in of if g is not None} for s, of in images},
            maps={
                (str(source), str(head)): _unpacked(_rows(arrays, f"maps.{place}"))
                for place, (source, head) in enumerate(header.get("maps", []))
            },
        )
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected an evaluation of densekit, got {error!r}") from error


def _arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    try:
        check_archive(Path(path))
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: expected an evaluation of densekit, got {error}") from error


def _described(one: Measured) -> dict[str, Any]:
    return {
        **{"data": one.data, "head": one.head, "name": one.name, "keys": one.keys},
        "metric": {"_target_": _public_name(type(one.metric)), **one.metric.arguments()},
    }


def _public_name(kind: type) -> str:
    """The shortest path to import a class by, which stays when its file moves."""
    parts = kind.__module__.split(".")
    packages = [".".join(parts[:end]) for end in range(1, len(parts))]
    exporting = (p for p in packages if getattr(sys.modules[p], kind.__name__, None) is kind)
    return f"{next(exporting, kind.__module__)}.{kind.__qualname__}"


def _measured(
    described: Mapping[str, Any],
    rows: Mapping[str, NDArray[np.float64]],
    key: str,
    trust: Sequence[str],
) -> Measured:
    node = described["metric"]
    check_stored({"metrics": node}, trust)
    metric = instantiate(node, key)
    if not isinstance(metric, RowMetric):
        raise ValueError(f"{key}: expected a metric that keeps rows, got {type(metric).__name__}")
    keys = {str(name): str(logged) for name, logged in described["keys"].items()}
    values = {keys[name]: float(value) for name, value in metric.recompute(rows).items()}
    return Measured(described["data"], described["head"], described["name"], metric, keys, values)


def _float_rows(arrays: Mapping[str, NDArray[Any]], place: int) -> dict[str, NDArray[np.float64]]:
    found = _rows(arrays, str(place))
    return {name: values.astype(np.float64, copy=False) for name, values in found.items()}


def _rows(arrays: Mapping[str, NDArray[Any]], place: str) -> dict[str, NDArray[Any]]:
    """The arrays `PLACE.NAME` by name."""
    prefix = f"{place}."
    found = {name: values for name, values in arrays.items() if name.startswith(prefix)}
    return {name.removeprefix(prefix): values for name, values in found.items()}


def _packed(maps: Maps) -> dict[str, NDArray[Any]]:
    """Label maps as arrays: the pictures one after the other, and where each ends."""
    arrays: dict[str, NDArray[Any]] = {}
    for place, of_images in enumerate(maps.values()):
        shown = list(of_images.values())
        slices = [-1 if one.slice is None else one.slice for one in shown]
        arrays |= {
            f"maps.{place}.images": np.array(list(of_images), dtype=np.int64),
            f"maps.{place}.slices": np.array(slices, dtype=np.int64),
            f"maps.{place}.ends": np.cumsum([len(one.png) for one in shown], dtype=np.int64),
            f"maps.{place}.png": np.frombuffer(b"".join(one.png for one in shown), np.uint8),
        }
    return arrays


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> dict[int, LabelMap]:
    content, ends = arrays["png"].tobytes(), [0, *arrays["ends"].tolist()]
    spans = itertools.pairwise(ends)
    rows = zip(arrays["images"].tolist(), arrays["slices"].tolist(), spans, strict=True)
    return {
        image: LabelMap(content[start:end], None if number < 0 else number)
        for image, number, (start, end) in rows
    }


def _is_plain(value: Any) -> bool:
    """Whether JSON keeps a value as it is."""
    if isinstance(value, Mapping):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return (
        value is None
        or isinstance(value, str | bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    )
