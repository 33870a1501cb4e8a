"""`python tools/benchmark.py ...` is `densekit benchmark ...`."""

import sys

from densekit.app.cli import main

sys.exit(main(["benchmark", *sys.argv[1:]]))
