"""Options that several commands share, and the files and devices that they name."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from densekit._locks import locked
from densekit.app.errors import UsageError
from densekit.app.options.table import Kind, Option, choice, names, text

logger = logging.getLogger(__name__)


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", name):
        raise ValueError(name)
    return name


def _score(text: str) -> float | str:
    value = text if text == "best" else float(text)
    if isinstance(value, float) and not 0 <= value <= 1:
        raise ValueError(text)
    return value


SOURCE = re.compile(r"(torchvision|timm|hub):|https?://")
"""How a published model begins, in place of a path; see `densekit.interop.published`."""
PUBLISHED = "an existing file or folder, torchvision:NAME, timm:NAME or hub:OWNER/REPO"
CHECKPOINT = Option(
    "checkpoint",
    text("PATH", "a checkpoint, a run folder or a published model"),
    None,
    "a checkpoint file; a run folder, which stands for its best checkpoint; or a published model,"
    " torchvision:NAME, timm:NAME or hub:OWNER/REPO",
    required=True,
)
START = replace(
    CHECKPOINT,
    help="start from the weights of a checkpoint file, of the best checkpoint of a run folder, or"
    " of a published model, torchvision:NAME, timm:NAME or hub:OWNER/REPO",
    required=False,
)
RESUME = Option(
    "resume",
    text("PATH", "a checkpoint or a run folder"),
    None,
    "continue exactly where a checkpoint or run folder stopped, with its own configuration unless"
    " groups are chosen",
)
RUN_NAME = Option(
    "run_name",
    text("NAME"),
    None,
    "folder of the runs, below runs/ (default: the name of the experiment)",
)
OBJECTIVE = Option(
    "objective",
    text("METRIC"),
    None,
    "with -m and hydra/sweeper=optuna: the metric of metrics.json to optimise",
)
DEVICE = Option(
    "device",
    Kind("DEVICE", "auto, cpu, cuda, cuda:1 or mps", _device),
    "auto",
    "cpu, cuda, cuda:1 or mps; auto is the first GPU, or the CPU if there is none",
)
PRECISION = Option(
    "precision",
    choice("fp32", "bf16", "fp16", "int8"),
    "fp32",
    "type in which the network computes, as far as the engine has it",
)
CALIBRATION = Option(
    "calibration",
    text("PATH", "a folder, a file or a pattern"),
    None,
    "pictures to measure the scales of precision=int8 on, when a program is built (default: images"
    " of the training)",
)
ENGINE = Option(
    "engine",
    choice("eager", "inductor", "onnxruntime", "openvino", "auto"),
    "eager",
    "what computes the predictions; auto takes the fastest that is right on the first images",
)
THRESHOLD = Option(
    "threshold",
    Kind("best|NUMBER", "best or a number from 0 to 1", _score),
    None,
    "score from which boxes are drawn, pixels of binary and multi-label masks and labels of"
    " multi-label images count: a number, or the best that the last validation has measured"
    " (default: that of the head's configuration, else best, else 0.5)",
)
PROGRESS = Option(
    "progress",
    choice("auto", "bar", "plain", "none"),
    "auto",
    "bar, or plain for lines that suit a log; auto is a bar in a terminal, otherwise lines",
)
TRUST = Option(
    "trust",
    names("PACKAGE"),
    (),
    "packages whose classes may be built, besides densekit and installed plug-ins",
)


def existing(key: str, value: Any) -> Path:
    """The path of an option whose file or folder must exist.

    Raises:
        UsageError: The file or folder does not exist.
    """
    path = Path(str(value)).expanduser()
    if not path.exists():
        raise UsageError(f"{key}: expected an existing file or folder, got {value}")
    return path


def checkpoint_file(value: Any) -> Path:
    """The file of the option `checkpoint`; for a run folder its best checkpoint, which is logged.

    A published model is downloaded and converted.

    Raises:
        UsageError: The file or folder does not exist, or the folder has no checkpoint.
        ConnectionError: A published model cannot be downloaded.
        ValueError: A published model is unknown or does not convert.
    """
    if SOURCE.match(str(value)):
        from densekit.interop.published import checkpoint_of

        return checkpoint_of(str(value))
    if ":" in str(value) and not Path(str(value)).expanduser().exists():
        from densekit.interop.sources import check_scheme

        check_scheme("checkpoint", str(value), PUBLISHED)
    path = existing("checkpoint", value)
    if path.is_file():
        return path
    from densekit.training import best_checkpoint

    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    if not any(folder.glob("*.ckpt")):
        raise UsageError(
            f"checkpoint: expected a file or a run folder with checkpoints/*.ckpt, got {value}"
        )
    found: Path = best_checkpoint(folder)
    logger.info("checkpoint: %s", found)
    return found


def output_folder(value: Any) -> Path:
    """Creates the folder of the option `output` and returns it.

    Raises:
        UsageError: The folder cannot be created.
    """
    folder = Path(str(value)).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"output: expected a folder that can be written, got {value} ({error.strerror})"
        ) from error
    return folder


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Context in which this is the only command that writes to a folder.

    Raises:
        UsageError: Another command is writing there.
    """

    def refuse() -> None:
        raise UsageError(
            f"output: expected a folder that no other command writes to, got {folder}; wait for it,"
            " or choose another folder"
        )

    file = folder / ".densekit.lock"
    with locked(file, refuse):
        try:
            yield
        finally:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def device_name(value: str) -> str:
    """The device of the option `device`; `auto` is the first GPU, or the CPU without one.

    Raises:
        UsageError: This machine does not have that GPU.
    """
    import torch

    found = torch.cuda.is_available()
    if value == "auto":
        return "cuda" if found else "cpu"
    device = torch.device(value)
    count = torch.cuda.device_count() if found else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        raise UsageError(f"device: expected one of this machine's CUDA GPUs ({count}), got {value}")
    return value
