"""`python tools/train.py ...` is `densekit train ...`."""

import sys

from densekit.app.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
