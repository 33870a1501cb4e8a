"""What needs no network: cosines of pixels and eigenfaces on an experiment's pairs.

Pixels as they are, less the mean of each image, and less the mean image of the training data; then
coordinates on the first principal components of the training images (Turk and Pentland 1991). The
same pairs and metric as the experiment's.

    python tools/benchmarks/face_baselines.py experiment=orl_arcface paths.data=DATA
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit import compose
from densekit.build import metric_recipes
from densekit.data.protocols import Dataset

COMPONENTS = (20, 50, 100)


def pixels(data: Dataset) -> NDArray[np.float64]:
    """(N, H * W * C) of images of one size."""
    return np.stack([data[i]["image"].reshape(-1).astype(np.float64) for i in range(len(data))])


def measured(
    vectors: NDArray[np.float64], truths: list[Any], cfg: dict[str, Any]
) -> dict[str, Any]:
    """The experiment's metrics of (N, E) vectors."""
    found: dict[str, Any] = {}
    for named in metric_recipes(cfg).values():
        for recipe in named.values():
            metric = recipe()
            metric.update([{"embedding": vector} for vector in vectors], truths)
            found |= {name: float(value) for name, value in metric.compute().items()}
    return found


def main(arguments: list[str]) -> None:
    """Prints one line per baseline."""
    sources, _, cfg = compose(*arguments)
    (source,) = sources.values()
    known, judged = pixels(source.train), pixels(source.test)
    truths = [source.test[i]["truth"] for i in range(len(source.test))]
    mean = known.mean(0)
    components = np.linalg.svd(known - mean, full_matrices=False)[2]
    rows = {
        "pixels": judged,
        "pixels less each image's mean": judged - judged.mean(1, keepdims=True),
        "pixels less the mean face": judged - mean,
    }
    for count in COMPONENTS:
        rows[f"eigenfaces, {count}"] = (judged - mean) @ components[:count].T
    for baseline, vectors in rows.items():
        found = measured(vectors, truths, cfg)
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in found.items() if "threshold" not in name
        )
        print(f"{baseline}: {shown}")


if __name__ == "__main__":
    main(sys.argv[1:])
