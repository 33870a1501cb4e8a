"""What a format is: how its files are written and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        write: Writes a valid data set into a folder; returns the file that is to be changed.
        read: Reads all of the folder; returns what must not change unless the file says so.
        is_text: Whether values in the file can be replaced.
        is_exact: Whether a changed file that is accepted must be read as before.
        is_named: Whether a refusal names the file; of a configuration it may name the key.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    is_text: bool = False
    is_exact: bool = False
    is_named: bool = True
