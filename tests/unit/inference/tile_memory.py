"""Measures memory of tiles: `python -m tests.unit.inference.tile_memory SIDE FOLDER`.

Prints the peak of the process in MB before the picture and after it, as JSON. The network is one
convolution, the picture SIDE x SIDE x 3 uint8 in tiles of 512.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from densekit.inference import predict_tiles
from tests.unit.inference.segmenter import tiny_segmenter

TILE = 512


def write_picture(path: Path, side: int) -> None:
    """A tiled TIFF of noise, written tile by tile."""
    tiles = np.random.default_rng(0).integers(0, 80, (8, TILE, TILE, 3), dtype=np.uint8)

    def stream() -> Iterator[NDArray[np.uint8]]:
        for number in range((-(-side // TILE)) ** 2):
            yield tiles[number % len(tiles)]

    tifffile.imwrite(
        path,
        stream(),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        photometric="rgb",
        compression="zlib",
        compressionargs={"level": 1},
    )


def peak() -> float:
    """MB: the most that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(side: int, folder: Path) -> None:
    model = tiny_segmenter(depth=0, channels=3)
    small, large = folder / "small.tif", folder / "large.tif"
    write_picture(small, 2 * TILE + 100)
    predict_tiles(model, small, folder / "small_mask.tif")  # what torch and tifffile take once
    before = peak()
    if not large.exists():
        write_picture(large, side)
    start = time.perf_counter()
    used = predict_tiles(model, large, folder / "large_mask.tif")
    seconds = time.perf_counter() - start
    print(json.dumps({"before": before, "after": peak(), "used": used, "seconds": seconds}))


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
