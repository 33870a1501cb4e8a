"""Runs several configurations at once on one machine, in a pool of processes."""

from __future__ import annotations

import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

from densekit.app import worker
from densekit.app.run.folder import seal

LOG = "log.txt"
ERROR_PREFIX = "densekit: error:"
"""How the error message of a worker begins."""


def run_all(files: Mapping[str, Path], at_once: int) -> Iterator[tuple[str, int, float]]:
    """Runs resolved configurations, `at_once` at a time, and divides the cores among them.

    The output of a run goes to `log.txt` beside its configuration. When the caller stops iterating,
    Ctrl-C included, no further run is started.

    Args:
        files: Run name to its `config.yaml`.
        at_once: Number of processes.

    Yields:
        Name, exit code and seconds of each run as it ends. Once a process is killed, by the
        out-of-memory killer for example, all unfinished runs have failed.
    """
    threads = max(1, (os.cpu_count() or 1) // at_once)
    # Starting a process takes longer than a small run, so each one takes further runs.
    pool = ProcessPoolExecutor(at_once, get_context("spawn"), _take_threads, (threads,))
    try:
        names = {pool.submit(_run, file, seal(file)): name for name, file in files.items()}
        for future in as_completed(names):
            try:
                code, seconds = future.result()
            except BrokenProcessPool:
                code, seconds = 1, math.nan
            yield names[future], code, seconds
    finally:
        pool.shutdown(cancel_futures=True)


def why_failed(log: Path) -> str:
    """The error that a log ends with."""
    if not log.is_file():
        return "it was not started, because a process was killed"
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines()]
    errors = [line for line in lines if line.startswith(ERROR_PREFIX)]
    return (errors or [line for line in lines if line] or ["it printed nothing"])[-1]


def _take_threads(count: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def _run(file: Path, sealed: str) -> tuple[int, float]:
    """Runs a configuration in this process, logged to a file; returns exit code and seconds."""
    started = time.monotonic()
    with (file.parent / LOG).open("wb") as log:
        for descriptor in (1, 2):  # below Python, so that the output of libraries is redirected too
            os.dup2(log.fileno(), descriptor)
    try:
        code = worker.main([str(file), sealed])
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code, time.monotonic() - started
