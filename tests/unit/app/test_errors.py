"""How an error reaches the terminal: in one line where densekit says what is wrong, else whole."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from densekit.app.cli import main
from densekit.app.errors import explain
from densekit.data.reading.images import read_image
from densekit.training.checkpoint_io import AtomicCheckpointIO
from tests.unit.app.small_run import SMALL_RUN


class Failing(Dataset[Any]):
    """Raises what its name says in the process of a loader."""

    def __init__(self, what: str, file: Path) -> None:
        self.what, self.file = what, file

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Any:
        if self.what == "image":
            return read_image(self.file)
        return {"a": 1}["b"]


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_loader_processes_are_those_of_this_one(tmp_path: Path, workers: int) -> None:
    file = tmp_path / "broken [1].png"
    file.write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with pytest.raises(Exception, match="broken") as raised:
        next(iter(DataLoader(Failing("image", file), num_workers=workers)))
    message = explain(raised.value)
    assert message is not None
    assert message.splitlines()[0].startswith(f"{file}: ")
    assert "Traceback" not in message
    with pytest.raises(KeyError) as defect:
        next(iter(DataLoader(Failing("defect", file), num_workers=workers)))
    assert explain(defect.value) is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_takes_no_more_is_named(number: int) -> None:
    message = explain(OSError(number, os.strerror(number), "/runs/metrics.json"))
    assert message is not None
    assert message.startswith(
        f"/runs/metrics.json: expected to be written, got: {os.strerror(number)}"
    )
    assert explain(OSError(errno.EPIPE, "broken pipe")) is None


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow  # torch looks up its own stack for a message that nobody sees
def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(OSError, match="last.ckpt: expected a writable file") as raised:  # noqa: SIM117
        with files_of_at_most(20_000):
            AtomicCheckpointIO().save_checkpoint({"w": torch.ones(100_000)}, path)
    assert explain(raised.value) is not None
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["train", *SMALL_RUN, f"paths.runs={tmp_path / 'file' / 'runs'}"]) == 2
    assert "paths.runs: expected a folder that can be written" in capsys.readouterr().err
