"""One process of a run: `python -m densekit.app.worker RUN/config.yaml SHA256 LAUNCHER`.

The file is resolved and was checked by the process that wrote it, which passes its SHA-256; Hydra
composes nothing here. Without the SHA-256 the file may come from anyone, and may build only what a
stored configuration may: see `densekit.trust`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import yaml

from densekit.app.errors import Stopped, UsageError, report
from densekit.app.run.console_log import kept_console
from densekit.app.run.fit import run_job
from densekit.app.run.folder import seal
from densekit.app.run.launch import is_main
from densekit.app.terminal import console_logging
from densekit.build import check_targets
from densekit.trust import check_stored

ORPHAN_SECONDS = 60
"""Time that a process gets to save and end once its launcher is gone."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job that a resolved configuration describes; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) not in (1, 2, 3):
        usage = "RUN/config.yaml [SHA256 [LAUNCHER]]"
        print(f"usage: python -m densekit.app.worker {usage}", file=sys.stderr)
        return 2
    kept: AbstractContextManager[None] = nullcontext()
    if len(arguments) == 3:
        launcher = int(arguments.pop())
        kept = kept_console(Path(arguments[0]).parent)
        threading.Thread(target=_end_after, args=(launcher,), daemon=True).start()
    try:
        cfg = _read(Path(arguments[0]), *arguments[1:])
        # All processes would log the same: the first logs everything, the others only warnings.
        with console_logging(logging.INFO if is_main() else logging.WARNING), kept:
            run_job(cfg)
    except Stopped as stop:
        return stop.code
    except Exception as error:
        return report(error)
    return 0


def _read(file: Path, sealed: str = "") -> dict[str, Any]:
    """Reads a configuration, checked by the process that sealed it, or else here."""
    cfg: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    if sealed:
        if seal(file) != sealed:
            raise UsageError(f"{file}: expected SHA-256 {sealed}, got a changed file")
        check_targets(cfg, cfg["trust"])
        return cfg
    run = str(file.absolute().parent)
    if cfg["paths"]["run"] != run:
        raise UsageError(f"{file}: paths.run: expected {run}, got {cfg['paths']['run']}")
    check_stored({**cfg, "vars": {}}, folder=run)
    return {**cfg, "trust": [], "artifact": None}


def _end_after(launcher: int) -> None:
    """Ends this process when its launcher is killed, whatever it is doing."""
    while os.getppid() == launcher:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(ORPHAN_SECONDS)
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
