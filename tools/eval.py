"""`python tools/eval.py ...` is `densekit eval ...`."""

import sys

from densekit.app.cli import main

sys.exit(main(["eval", *sys.argv[1:]]))
