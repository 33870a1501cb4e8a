"""Predicts a volume within limited memory: `python -m tests.unit.inference.volume_memory DEPTH MB`.

The volume has DEPTH x 256 x 256 voxels of 16 bits, compressed or not; the network is one
convolution of three classes. Once everything is imported, the process may allocate MB more
(`RLIMIT_DATA`: what is its own, not pages of files). Prints as JSON how much it took in MB, or that
it was too much, for the prediction slab by slab and for the one in memory.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from densekit import Predictor
from densekit.inference import SlidingWindow, predict_volume
from tests.unit.inference.segmenter import tiny_segmenter

SIDE, WINDOW = 256, (16, 64, 64)


def allocated() -> float:
    """MB of the memory that `RLIMIT_DATA` limits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmData")).split()[1]) / 1024


def write(path: Path, depth: int) -> Path:
    """A file whose values repeat every 16 slices, written slice by slice."""
    slices = np.random.default_rng(0).integers(0, 80, (16, SIDE, SIDE), np.int16)
    image = nib.Nifti1Image(np.broadcast_to(np.int16(0), (SIDE, SIDE, depth)), np.eye(4))
    with nib.openers.ImageOpener(str(path), "wb") as stream:
        image.header.write_to(stream)
        for z in range(depth):
            stream.write(slices[z % 16].tobytes())
    return path


def within(limit: float, run: Callable[[], Any]) -> float | str:
    """Runs within a limit of MB; returns how many MB more are allocated at the end."""
    before, unlimited = allocated(), resource.getrlimit(resource.RLIMIT_DATA)
    most = int((before + limit) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (most, unlimited[1]))
    try:
        run()
        return round(allocated() - before)
    except (MemoryError, RuntimeError) as error:
        return f"{type(error).__name__}: {str(error)[:80]}"
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, unlimited)


def main(depth: int, limit: float) -> None:
    model = tiny_segmenter(dims=3, depth=0, dtype="float32", intensity={"kind": "zscore"})
    predictor = Predictor(model, inferer=SlidingWindow(WINDOW, overlap=0.25))
    found: dict[str, Any] = {"voxels_mb": depth * SIDE * SIDE * 4 / 2**20}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        predict_volume(predictor, [write(folder / "small.nii", 16)], folder)
        for name in ("large.nii", "large.nii.gz"):
            path = write(folder / name, depth)
            found[name] = within(limit, lambda: predict_volume(predictor, [path], folder))  # noqa: B023
        found["in memory"] = within(limit, lambda: predictor(folder / "large.nii"))
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
