"""One process of a run: `python -m densekit.app.worker RUN/config.yaml`.

The file is resolved and was checked by the process that wrote it; Hydra composes nothing here.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from densekit.app.errors import explain
from densekit.app.fit import run_job
from densekit.app.launch import is_main
from densekit.app.report import spoken_log
from densekit.build import check_targets


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the job that a resolved configuration describes; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) != 1:
        print("usage: python -m densekit.app.worker RUN/config.yaml", file=sys.stderr)
        return 2
    try:
        cfg = yaml.safe_load(Path(arguments[0]).read_text(encoding="utf-8"))
        check_targets(cfg, cfg["trust"])
        # Every process would say the same: the first one speaks, the others only warn.
        with spoken_log(logging.INFO if is_main() else logging.WARNING):
            run_job(cfg)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        print(f"densekit: error: {message}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
