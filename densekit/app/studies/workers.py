"""Several runs at once on one machine, each in a process that goes on with the next one."""

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
SPOKEN = "densekit: error:"
"""How the worker begins what it tells the user."""


def run_all(files: Mapping[str, Path], at_once: int) -> Iterator[tuple[str, int, float]]:
    """Runs resolved configurations, `at_once` of them at any time, and shares out the cores.

    What a run prints goes into `log.txt` beside its configuration. Whoever stops listening, Ctrl-C
    included, gets no further run started.

    Args:
        files: Name of a run to its `config.yaml`.
        at_once: Number of processes.

    Yields:
        Name, exit code and seconds of each run as it ends. Once a process is killed, for its memory
        for instance, all runs that are not done have failed.
    """
    threads = max(1, (os.cpu_count() or 1) // at_once)
    # Starting takes longer than a small run: a process does not end with its first one.
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
    spoken = [line for line in lines if line.startswith(SPOKEN)]
    return (spoken or [line for line in lines if line] or ["it said nothing"])[-1]


def _take_threads(count: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def _run(file: Path, sealed: str) -> tuple[int, float]:
    """Exit code and seconds of a run in this process, whose output goes into the run's log."""
    started = time.monotonic()
    with (file.parent / LOG).open("wb") as log:
        for descriptor in (1, 2):  # below Python, so that handlers of libraries follow
            os.dup2(log.fileno(), descriptor)
    try:
        code = worker.main([str(file), sealed])
    except Exception:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code, time.monotonic() - started
