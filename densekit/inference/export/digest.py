"""The SHA-256 of an exported file, one of its texts: a file with another one is damaged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

DIGEST = "sha256"
"""Text in the file: the digest of its content, and of the other texts where they lie within it."""


def digest(content: bytes, texts: Mapping[str, str]) -> str:
    """Returns the SHA-256 of a file's content without texts, and of the texts but `DIGEST`."""
    others = {name: text for name, text in texts.items() if name != DIGEST}
    found = hashlib.sha256(content)
    found.update(json.dumps(others, sort_keys=True).encode())
    return found.hexdigest()


def check_digest(file: Path, stored: str, found: str) -> None:
    """Compares two digests of a file.

    Raises:
        ValueError: They differ.
    """
    if stored != found:
        raise damaged(file, f"its SHA-256 is {found[:12]}..., not {stored[:12]}...")


def damaged(file: Path, reason: str) -> ValueError:
    """The error of a file whose content has changed since it was exported."""
    return ValueError(
        f"{file}: expected an intact file, got a damaged one: {reason}; copy or export it again"
    )
