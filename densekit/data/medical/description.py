"""`dataset.json`, which describes a data set of MSD or nnU-Net: its classes and channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit._reading import parse_json
from densekit.data.naming import unique_keys
from densekit.data.reading.files import natural
from densekit.data.reading.tables import read_text

Labels = Mapping[str, int | Sequence[int]]


def modalities(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What each channel is, by `channel_names` (nnU-Net) or `modality` (MSD)."""
    named = content.get("channel_names") or content.get("modality") or ()
    if isinstance(named, str):
        return (named,)
    if isinstance(named, Mapping):
        named = [named[number] for number in sorted(named, key=lambda n: natural(str(n)))]
    return tuple(str(name or "") for name in named) if isinstance(named, Sequence) else ()


def labels_of(path: Path, content: Mapping[str, Any]) -> Labels:
    """The classes with their stored values, empty where none are named.

    Raises:
        ValueError: If `labels` is not a mapping.
    """
    labels = content.get("labels") or {}
    if not isinstance(labels, dict):
        raise ValueError(f"{path}: labels: expected names with their values, got {labels!r:.80}")
    return labels


def read_description(path: Path) -> Mapping[str, Any]:
    """The content of the file.

    Raises:
        ValueError: If it is not a JSON object, or names a key twice.
    """
    text = read_text(path, str(path))
    content = parse_json(text, path, unique_keys)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
