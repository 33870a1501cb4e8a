"""The README as package indexes show it: its links and pictures lead to the repository."""

import re
from pathlib import Path

from setuptools import setup

REPOSITORY = "https://github.com/densekit/densekit"


def absolute(link: re.Match[str]) -> str:
    """A link, or a picture, whose target is a path of the repository."""
    return f"{link[0]}{REPOSITORY}/{'raw' if link[1] else 'blob'}/main/"


readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
setup(
    long_description=re.sub(r"(!?)\[[^][]*\]\((?!\w+:|#)", absolute, readme),
    long_description_content_type="text/markdown",
)
