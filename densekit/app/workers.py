"""Several runs at once on one machine, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

LOG = "log.txt"
POLL_SECONDS = 0.1


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    started: float


def run_all(files: Mapping[str, Path], at_once: int) -> Iterator[tuple[str, int, float]]:
    """Runs resolved configurations, `at_once` of them at any time, and shares out the cores.

    What a run prints goes into `log.txt` beside its configuration. Whoever stops listening, Ctrl-C
    included, ends the runs in progress.

    Args:
        files: Name of a run to its `config.yaml`.
        at_once: Number of processes.

    Yields:
        Name, exit code and seconds of each run as it ends.
    """
    waiting, running = list(files), dict[str, _Worker]()
    threads = max(1, (os.cpu_count() or 1) // at_once)
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                name = waiting.pop(0)
                running[name] = _start(files[name], threads)
            for name, worker in list(running.items()):
                code = worker.process.poll()
                if code is not None:
                    del running[name]
                    worker.log.close()
                    yield name, code, time.monotonic() - worker.started
            time.sleep(POLL_SECONDS)
    finally:
        for worker in running.values():
            worker.process.terminate()
            worker.process.wait()
            worker.log.close()


def last_line(log: Path) -> str:
    """What a run said last, which is its error where it failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _start(file: Path, threads: int) -> _Worker:
    log = (file.parent / LOG).open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "densekit.app.worker", str(file)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        # torch sizes its pool by this; without it every process would take all cores.
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
    )
    return _Worker(process, log, time.monotonic())
