"""Reads and writes the files of checkpoints: atomically, and with their checksums compared.

A file is written under a temporary name beside its target and renamed: a run that is killed while
saving leaves the previous checkpoint intact.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from densekit._files import replacing
from densekit.artifact import check_intact


class UnwritableError(OSError):
    """A checkpoint could not be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints atomically, whatever file system the temporary folder is on.

    Lightning's own writer moves the file from the system's temporary folder; on another file system
    this is a copy, which can be interrupted.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Saves beside the target, syncs to disk, then renames.

        Args:
            checkpoint: Tensors, numbers and strings.
            path: Target; remote ones are left to Lightning.
            storage_options: Must be None.
        """
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            with replacing(target) as part, part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch's writer raises RuntimeError
            raise UnwritableError(
                f"{target}: expected a writable file, got {_reason(error)}; the previous"
                " checkpoints are intact"
            ) from error

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> Any:
        """Loads a checkpoint whose content agrees with its checksums."""
        if "://" not in str(path):
            check_intact(path)
        return super().load_checkpoint(path, *args, **options)


def _reason(error: BaseException) -> str:
    """The words of the system for a failed write, which torch's writer hides behind its own."""
    first: BaseException | None = error
    while first is not None:
        if isinstance(first, OSError) and first.strerror:
            return first.strerror
        first = first.__cause__ or first.__context__
    return str(error).splitlines()[0]
