"""`python tools/predict.py ...` is `densekit predict ...`."""

import sys

from densekit.app.cli import main

sys.exit(main(["predict", *sys.argv[1:]]))
