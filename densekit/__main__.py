"""`python -m densekit` is the `densekit` command."""

import sys

from densekit.app.cli import main

sys.exit(main())
