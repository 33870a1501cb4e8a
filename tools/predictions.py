"""Predictions of trained models on test images, side by side under captions.

Each panel is `CAPTION=NUMBER WORDS`: a test image by its number, the checkpoint, and the words of
`densekit train` that name the data. The picture of the README:

    python tools/predictions.py docs/images/predictions.jpg \
        'cells=3 experiment=bccd_faster_rcnn paths.data=DATA checkpoint=RUN_1' \
        'shapes=5 experiment=quickstart_unet checkpoint=RUN_2'
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from densekit import Predictor, compose
from densekit.app.demo.canvas import Place
from densekit.app.demo.runner import Runner
from densekit.app.options.shared import checkpoint_file
from densekit.visualization.images import Picture, save_picture
from densekit.visualization.panels import side_by_side

CHECKPOINT = "checkpoint="
WIDEST = 2000
"""Pixels to which a row of many panels is reduced."""


def draw(number: int, words: Sequence[str]) -> Picture:
    """A test image with the prediction of the first head, as `densekit demo` shows it."""
    stored = next(word for word in words if word.startswith(CHECKPOINT))
    sources, _, _ = compose(*(word for word in words if word != stored))
    test = next(iter(sources.values())).test
    if test is None:
        raise ValueError(f"{words}: expected data with a test split")
    predictor = Predictor(checkpoint_file(stored.removeprefix(CHECKPOINT)))
    sample = test[number]
    with TemporaryDirectory() as folder:
        file = Path(sample["meta"]["path"])
        if not file.exists():  # a rendered scene
            file = Path(folder, "scene.png")
            Image.fromarray(sample["image"]).save(file)
        views = Runner(predictor, Path(folder, "results")).run([file]).views
    view = next(iter(views.values()))
    picture = view.panel(None, Place(0, view.best(0))).picture
    if picture is None:
        raise ValueError(f"{words}: expected a result that is drawn, got none")
    return picture


def main(arguments: Sequence[str]) -> None:
    """Draws one panel per argument and saves them in a row."""
    output, *panels = arguments
    drawn = {}
    for panel in panels:
        caption, _, rest = panel.partition("=")
        number, *words = shlex.split(rest)
        drawn[caption] = draw(int(number), words)
    row = Image.fromarray(side_by_side(list(drawn.values()), list(drawn)))
    row.thumbnail((WIDEST, row.height))
    save_picture(np.asarray(row), output)


if __name__ == "__main__":
    main(sys.argv[1:])
