"""Error types against a plain reading of TIDE's rules, one detection after the other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from densekit.metrics import CocoMap
from densekit.metrics.detection.tide import KINDS, errors, gains
from tests.unit.metrics.detection.scenes import random_scene

pytestmark = pytest.mark.parity


@dataclass(eq=False)
class Box:
    """An object or a detection of the reference."""

    label: int
    box: np.ndarray
    score: float = 0.0
    state: str = "wrong"  # of a detection: right, wrong or ignored
    kind: str = ""
    target: Box | None = None  # what an error belongs to
    found: bool = False  # of an object
    best: Box | None = None  # the error whose repair finds it


def iou(a: Box, b: Box, crowd: bool = False) -> float:
    sides = np.minimum(a.box[2:], b.box[2:]) - np.maximum(a.box[:2], b.box[:2])
    shared = sides.clip(min=0).prod()
    areas = [(one.box[2:] - one.box[:2]).prod() for one in (a, b)]
    return shared / (areas[0] if crowd else sum(areas) - shared)


def match(detections: list[Box], objects: list[Box], crowds: list[Box]) -> None:
    """Says of each detection of an image, by falling score, whether it is right or ignored."""
    for one in detections:
        free = [o for o in objects if o.label == one.label and not o.found]
        nearest = max(free, key=lambda o: iou(one, o), default=None)
        if nearest is not None and iou(one, nearest) >= 0.5:
            one.state, nearest.found = "right", True
    for one in detections:
        near = [c for c in crowds if c.label == one.label and iou(one, c, crowd=True) > 0.5]
        if one.state == "wrong" and near:
            one.state = "ignored"


def judge(one: Box, objects: list[Box]) -> None:
    """Names an error, as section 3.1 of the paper; ignored ones too, as release 1.0.1."""
    nearest = []
    for of_class in (True, False):
        some = [o for o in objects if (o.label == one.label) == of_class]
        nearest.append(max(some, key=lambda o: iou(one, o), default=None))
    place, mistaken = (0.0 if o is None else iou(one, o) for o in nearest)
    if 0.1 <= place <= 0.5:
        one.kind, one.target = "localisation", nearest[0]
    elif mistaken >= 0.5:
        one.kind, one.target = "classification", nearest[1]
    elif place > 0.5:
        one.kind = "duplicate"
    else:
        one.kind = "background" if max(place, mistaken) <= 0.1 else "both"
    if one.target is not None and not one.target.found and one.target.best is None:
        one.target.best = one  # detections come by falling score


def mean_ap(points: list[tuple[int, float, bool]], objects: list[int]) -> float:
    """Of (label, score, right), COCO's 101 points."""
    aps = []
    for label, count in enumerate(objects):
        ranked = sorted((p for p in points if p[0] == label), key=lambda p: -p[1])
        right = np.cumsum([p[2] for p in ranked])
        precision, recall = right / np.arange(1, len(ranked) + 1), right / count
        reached = [precision[recall >= point].max(initial=0) for point in np.linspace(0, 1, 101)]
        aps.append(np.mean(reached))
    return float(np.mean(aps))


def reference(results, truths, classes: int) -> tuple[dict[str, int], dict[str, float]]:
    """Number of errors that count, and AP gained, by type."""
    detections: list[Box] = []
    objects: list[Box] = []
    for result, truth in zip(results, truths, strict=True):
        rows = zip(result["labels"], result["boxes"], result["scores"], strict=True)
        of_image = sorted(
            (Box(int(k), np.float64(box), float(score)) for k, box, score in rows),
            key=lambda one: -one.score,
        )
        both = [Box(int(k), box) for k, box in zip(truth["labels"], truth["boxes"], strict=True)]
        annotated = [b for b, crowd in zip(both, truth["crowd"], strict=True) if not crowd]
        match(of_image, annotated, [b for b in both if b not in annotated])
        for one in of_image:
            if one.state != "right":
                judge(one, annotated)
        detections += of_image
        objects += annotated

    def ap(points, gone=()):
        left = [sum(o.label == k for o in objects if o not in gone) for k in range(classes)]
        return mean_ap(points, left)

    def point(one):
        return (one.label, one.score, one.state == "right")

    missed = [o for o in objects if not o.found and o.best is None]
    unfound = [o for o in objects if not o.found]
    counted = [one for one in detections if one.state != "ignored"]
    base = ap([point(one) for one in counted])
    gained = {}
    for kind in KINDS:
        points = [point(one) for one in counted if one.kind != kind]
        points += [
            (one.target.label, one.score, True)
            for one in detections
            if one.kind == kind and one.target is not None and one.target.best is one
        ]
        gained[kind] = max(ap(points) - base, 0)
    everything = [point(one) for one in counted]
    gained["missed"] = max(ap(everything, missed) - base, 0)
    gained["false positives"] = ap([p for p in everything if p[2]]) - base
    gained["false negatives"] = max(ap(everything, unfound) - base, 0)
    numbers = {kind: sum(one.kind == kind for one in counted) for kind in KINDS}
    return numbers | {"missed": len(missed)}, gained


@pytest.mark.parametrize("crowd", [0.0, 0.3])
def test_types_and_gains_are_those_of_tide(crowd: float):
    for seed in range(4):
        scene = random_scene(np.random.default_rng(seed), 15, 3, crowd=crowd)
        metric = CocoMap(["cat", "dog", "cow"])
        metric.update(*scene)
        metric.compute()
        outcomes = metric.outcomes()
        found = errors(outcomes)
        numbers, gained = reference(*scene, 3)
        kinds = found.kind[outcomes.counts & ~outcomes.right]
        ours = {kind: int((kinds == code).sum()) for code, kind in enumerate(KINDS)}
        assert ours | {"missed": int(found.missed.sum())} == numbers, seed
        assert gains(outcomes, found) == pytest.approx(gained, abs=1e-12), seed
