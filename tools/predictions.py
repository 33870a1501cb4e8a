"""Predictions of trained models on test images, side by side under captions.

Each panel is `CAPTION=NUMBER WORDS`: a test image by its number, and the words of `densekit train`
that name the data and the checkpoint. The picture of the README:

    python tools/predictions.py docs/images/predictions.jpg \
        'cells=3 experiment=bccd_faster_rcnn paths.data=DATA checkpoint=RUN_1' \
        'shapes=5 experiment=quickstart checkpoint=RUN_2'
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from densekit import Predictor, compose
from densekit._names import foreground
from densekit.visualization.boxes import draw_detections
from densekit.visualization.images import Picture, save_picture
from densekit.visualization.masks import overlay
from densekit.visualization.panels import side_by_side

MIN_SCORE = 0.5


def draw(number: int, words: Sequence[str]) -> Picture:
    """A test image with the boxes or the mask that the first head of the model predicts."""
    sources, model, _ = compose(*words)
    test = next(iter(sources.values())).test
    if test is None:
        raise ValueError(f"{words}: expected data with a test split")
    image = test[number]["image"]
    head, result = next(iter(Predictor(model)(image)[0].items()))
    known = model.info["heads"][head]
    if "mask" in result:
        return overlay(image, result["mask"], foreground(known))
    return draw_detections(image, result, known["names"], MIN_SCORE)


def main(arguments: Sequence[str]) -> None:
    """Draws one panel per argument and saves them in a row."""
    output, *panels = arguments
    drawn = {}
    for panel in panels:
        caption, _, rest = panel.partition("=")
        number, *words = shlex.split(rest)
        drawn[caption] = draw(int(number), words)
    save_picture(side_by_side(list(drawn.values()), list(drawn)), output)


if __name__ == "__main__":
    main(sys.argv[1:])
