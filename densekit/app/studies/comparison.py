"""Two evaluations side by side: metrics with intervals, images that changed, other settings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from densekit.app.errors import UsageError
from densekit.evaluation import Evaluation, Measured, read_evaluation
from densekit.metrics.bootstrap import draws
from densekit.metrics.comparison import Difference, differences
from densekit.metrics.protocols import HasCases, HasResamples

STAGES = ("test", "val")
CHANGED = 20
"""Number of images that are listed."""


@dataclass(frozen=True)
class Changed:
    """An image that two models do not predict alike.

    Attributes:
        image_id: Its id.
        path: Its path, or the id where it has none.
        first: Its value in the first evaluation.
        second: In the second.
    """

    image_id: int
    path: str
    first: float
    second: float

    @property
    def change(self) -> float:
        """`second - first`."""
        return self.second - self.first


@dataclass(frozen=True)
class Compared:
    """One metric of one head on one data set, in both evaluations.

    Attributes:
        first: In the first evaluation.
        second: In the second.
        differences: Of its values, the main one first.
        images: Those whose value changed most, the largest change first.
        column: The name of that value; empty if the metric has none of single images.
    """

    first: Measured
    second: Measured
    differences: list[Difference]
    images: list[Changed]
    column: str

    @property
    def verdict(self) -> int:
        """Of the main value: 1 if the second is better, -1 if it is worse, else 0."""
        main = self.differences[0]
        higher = self.first.metric.higher_is_better
        if higher is None or not main.is_distinguishable:
            return 0
        return 1 if (main.change > 0) == higher else -1


def evaluation_of(path: Path, stage: str | None, trust: Sequence[str] = ()) -> Evaluation:
    """Reads the evaluation of a run folder, or a file of one.

    Args:
        path: Run folder, or `evaluation_*.npz`.
        stage: "val" or "test"; None for the test if there is one.
        trust: Packages whose metrics may be built.

    Raises:
        UsageError: There is none.
    """
    if path.is_file():
        return read_evaluation(path, trust)
    wanted = STAGES if stage is None else (stage,)
    files = [path / f"evaluation_{name}.npz" for name in wanted]
    for file in files:
        if file.is_file():
            return read_evaluation(file, trust)
    names = " or ".join(file.name for file in files)
    raise UsageError(
        f"{path}: expected {names}, got none; it is written by `densekit eval checkpoint={path}"
        " output=DIR`"
    )


def compare(first: Evaluation, second: Evaluation, resamples: int) -> list[Compared]:
    """Compares the metrics that both evaluations have.

    Raises:
        UsageError: They have no metric in common, or were made on other images.
    """
    others = {(one.data, one.head, one.name): one for one in second.measured}
    pairs = [
        (one, others[key])
        for one in first.measured
        if (key := (one.data, one.head, one.name)) in others
        and isinstance(one.metric, HasResamples)
        and isinstance(others[key].metric, HasResamples)
    ]
    if not pairs:
        raise UsageError(
            f"expected evaluations with a metric in common, got {_listed(first)} and"
            f" {_listed(second)}"
        )
    return [_compared(a, b, first, second, resamples) for a, b in pairs]


def _listed(evaluation: Evaluation) -> str:
    named = [f"{one.data}/{one.head}/{one.name}" for one in evaluation.measured]
    return ", ".join(named) or "none"


def _compared(
    a: Measured, b: Measured, first: Evaluation, second: Evaluation, resamples: int
) -> Compared:
    _check_images(a, b, first.paths.get(a.data, {}), second.paths.get(b.data, {}))
    ids, groups = a.metric.image_ids().tolist(), first.groups.get(a.data, {})
    drawn = draws([groups.get(image, image) for image in ids], resamples)
    column, changed = _images(a.metric, b.metric)
    paths = first.paths.get(a.data, {})
    images = [Changed(image, paths.get(image) or str(image), x, y) for image, x, y in changed]
    assert isinstance(a.metric, HasResamples)
    assert isinstance(b.metric, HasResamples)
    return Compared(a, b, differences(a.metric, b.metric, drawn), images, column)


def _check_images(
    a: Measured, b: Measured, paths: Mapping[int, str], others: Mapping[int, str]
) -> None:
    ids, other_ids = (set(one.metric.image_ids().tolist()) for one in (a, b))
    if ids != other_ids:
        odd = sorted(ids ^ other_ids)
        name = paths.get(odd[0]) or others.get(odd[0]) or str(odd[0])
        raise UsageError(
            f"expected two evaluations of the same images, got {len(ids)} and {len(other_ids)} of"
            f" {a.data} with {len(ids & other_ids)} in common ({name} is in one of them alone)"
        )
    renamed = [i for i in ids if Path(paths.get(i, "")).name != Path(others.get(i, "")).name]
    if renamed:
        raise UsageError(
            f"expected two evaluations of the same images, got image {renamed[0]} as"
            f" {paths.get(renamed[0])} and {others.get(renamed[0])}"
        )


def _images(first: Any, second: Any) -> tuple[str, list[tuple[int, float, float]]]:
    """The value of single images that is compared, and those that changed most."""
    if not (isinstance(first, HasCases) and isinstance(second, HasCases)):
        return "", []
    rows = [{row["image_id"]: row for row in metric.cases()} for metric in (first, second)]
    example: Mapping[str, Any] = next(iter(rows[0].values()), {})
    numbers = [n for n, v in example.items() if n != "image_id" and isinstance(v, float)]
    if not numbers:
        return "", []
    column = numbers[0]
    pairs = [(i, float(rows[0][i][column]), float(rows[1][i][column])) for i in rows[0]]
    changed = [(i, x, y) for i, x, y in pairs if x != y and not math.isnan(y - x)]
    changed.sort(key=lambda one: -abs(one[2] - one[1]))
    return column, changed[:CHANGED]


def other_settings(first: Path, second: Path) -> list[tuple[str, str, str]]:
    """Keys of `config.yaml` in which two run folders differ, and both values."""
    flat = [_flat(_config(folder)) for folder in (first, second)]
    keys = [key for key in {**flat[0], **flat[1]} if not key.startswith(("paths.", "expected"))]
    rows = [(key, str(flat[0].get(key, "-")), str(flat[1].get(key, "-"))) for key in keys]
    paths = [str(folder.absolute()) for folder in (first, second)]
    return [
        (key, a, b)
        for key, a, b in rows
        if a.replace(paths[0], "RUN") != b.replace(paths[1], "RUN")
    ]


def _config(folder: Path) -> Any:
    file = folder / "config.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _flat(node: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(node, Mapping) or not node:
        return {key: node} if key else {}
    parts: Iterable[dict[str, Any]] = (
        _flat(value, f"{key}.{name}" if key else str(name)) for name, value in node.items()
    )
    return {name: value for part in parts for name, value in part.items()}
