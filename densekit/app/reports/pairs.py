"""The hardest pairs of a verification: alike though of two identities, unlike though of one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densekit.app.reports.blocks import Block, Gallery, ImageKey, Picture, View
from densekit.app.reports.names import ImageNames
from densekit.evaluation import Evaluation, Measured
from densekit.metrics.embedding.embedding_metric import HEADER
from densekit.metrics.embedding.verification import Verification, similarities

MOST = 12


def hardest_pairs(evaluation: Evaluation, measured: Sequence[Measured]) -> list[Block]:
    """Two galleries of a head that compares images; none for other heads."""
    one = next((one for one in measured if isinstance(one.metric, Verification)), None)
    if one is None:
        return []
    assert isinstance(one.metric, Verification)
    templates, pairs = one.metric.compared()
    scores, same = similarities(templates, pairs), pairs[:, 2] > 0
    first = _first_image(one.metric)
    names = ImageNames(evaluation.paths.get(one.data, {}))
    kinds = [
        ("Unlike pairs of one identity", "The lowest similarity first.", same, scores),
        ("Alike pairs of two identities", "The highest similarity first.", ~same, -scores),
    ]
    blocks: list[Block] = []
    for title, about, chosen, order in kinds:
        ranked = np.flatnonzero(chosen)[np.argsort(order[chosen], kind="stable")]
        pictures = [
            _pair(one.data, names, [first[int(t)] for t in pairs[row, :2]], float(scores[row]))
            for row in ranked[:MOST]
        ]
        if pictures:
            blocks.append(Gallery(title, about, pictures, {}))
    return blocks


def _first_image(metric: Verification) -> dict[int, int]:
    """Template to the first of its images."""
    images = len(metric.image_ids())
    table = metric.computed_rows()["rows"].reshape(images, -1)[:, :HEADER]
    order = np.lexsort((table[:, 0], table[:, 1]))[::-1]
    return {int(template): int(image) for image, template in table[order, :2]}


def _pair(data: str, names: ImageNames, images: Sequence[int], score: float) -> Picture:
    views = [View(ImageKey(data, image)) for image in images]
    both = " and ".join(map(names.of, images))
    return Picture(views, both, [f"similarity {score:.3f}"])
