"""Plants wrong labels into the test images of bccd and counts how many a detector points at first.

    python tools/doctor_label_errors.py data=FOLDER checkpoint=RUN

Each time, ten labels are made wrong: the class of four objects, the boxes of three, and three are
left out. The detector must not have been trained on the test images.
"""

from __future__ import annotations

import copy
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planted.copies import Copy, Row
from planted.sets import voc

from densekit.app.doctor.checks.boxes import iou
from densekit.app.doctor.disagreement import Predict
from densekit.app.doctor.findings import Finding
from densekit.app.doctor.page import suspects
from densekit.app.doctor.run import diagnose
from densekit.app.options.shared import checkpoint_file
from densekit.app.options.table import Option, split_options, text, whole
from densekit.inference import Predictor

OPTIONS = (
    Option("data", text("FOLDER"), None, "folder of the data sets"),
    Option("checkpoint", text("PATH"), None, "a detector of bccd"),
    Option("times", whole(1), 5, "how often ten labels are made wrong"),
    Option("first", whole(1), 20, "candidates that count, in the order of the page"),
)
KINDS = ("class",) * 4 + ("box moved",) * 3 + ("object left out",) * 3
HIT = 0.3
"""IoU of a candidate with the planted object, before or after, from which it points at it."""
Planted = tuple[str, str, list[Row]]
"""Kind, file name, and the object before and after."""


def main(words: list[str]) -> int:
    """Measures and prints one line per kind of error."""
    options, _ = split_options(words, OPTIONS)
    logging.disable(logging.WARNING)
    predict = _remembered(Predictor(checkpoint_file(options["checkpoint"])))
    planted, found, early = Counter[str](), Counter[str](), Counter[str]()
    for time in range(options["times"]):
        with tempfile.TemporaryDirectory() as folder:
            made = voc(Path(options["data"]) / "bccd", Path(folder) / "set", {"test": "test"})
            wrong = _plant(made, np.random.default_rng(100 + time))
            node = copy.deepcopy(made.node)
            findings = diagnose("data", node, made.resize, predict=predict).findings
        shown = suspects(findings)
        print(f"{len(shown)} candidates: {dict(Counter(f.check for f in shown))}")
        for kind, name, rows in wrong:
            places = [n for n, finding in enumerate(shown) if _points_at(finding, name, rows)]
            for key in (kind, "all"):
                planted[key] += 1
                found[key] += bool(places)
                early[key] += bool(places) and places[0] < options["first"]
    for kind, count in planted.items():
        told = f"{found[kind]} found, {early[kind]} of them among the first"
        print(f"{kind}: {count} planted, {told} {options['first']}")
    return 0


def _remembered(predict: Predictor) -> Predict:
    """Predicts each image once, as the images stay the same."""
    known: dict[bytes, Any] = {}

    def remembered(images: Sequence[Any]) -> Any:
        (image,) = images
        key = np.asarray(image).tobytes()
        if key not in known:
            known[key] = predict(images)
        return known[key]

    return remembered


def _plant(made: Copy, rng: np.random.Generator) -> list[Planted]:
    """Makes the label of one object wrong in each of ten images."""
    images = [image for image in made.splits["test"] if made.rows(image)]
    chosen = rng.choice(len(images), len(KINDS), replace=False)
    return [_spoil(made, images[n], kind, rng) for n, kind in zip(chosen, KINDS, strict=True)]


def _spoil(made: Copy, image: Path, kind: str, rng: np.random.Generator) -> Planted:
    rows = made.rows(image)
    place = int(rng.integers(len(rows)))
    old, new = rows[place], list(rows[place])
    if kind == "class":
        new[4] = str(rng.choice(sorted({"RBC", "WBC", "Platelets"} - {old[4]})))
    else:  # by half of its width to where there is room
        step = (old[2] - old[0]) / 2
        step = -step if old[0] - step >= 0 else step
        new[0], new[2] = old[0] + step, old[2] + step
    kept = [] if kind == "object left out" else [new]
    made.change(image, lambda rows: rows[:place] + kept + rows[place + 1 :])
    return kind, image.name, [old, *kept]


def _points_at(finding: Finding, name: str, rows: Sequence[Row]) -> bool:
    if Path(finding.file).name != name or finding.box is None:
        return False
    overlap = iou(np.array([finding.box, *(row[:4] for row in rows)], np.float64))
    return bool((overlap[0, 1:] >= HIT).any())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
