"""What engines have in common that run a file of another runtime, one file per shape."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from densekit.inference.calibration import CalibrationError
from densekit.inference.engine import Pair, Seen
from densekit.inference.engines.buckets import Shape
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.compiled import Compiled, Program, label
from densekit.inference.engines.proof import EngineError
from densekit.inference.export.base import Example, Format
from densekit.inference.export.base import Program as FileProgram
from densekit.inference.export.int8 import export_int8
from densekit.model import DenseModel


def build_exported(
    runtime: str,
    made: Format,
    model: DenseModel,
    precision: str,
    cache: Cache | None,
    seen: Seen | None = None,
) -> Compiled:
    """Builds the engine of a runtime.

    Args:
        runtime: Its package, whose name is also that of the engine.
        made: The format of its files.
        model: In eval mode, on the CPU.
        precision: One of the format's.
        cache: Keeps the files.
        seen: What the network sees of calibration images, for int8.
    """
    makers = ("onnxscript", "nncf") if precision == "int8" else ("onnxscript",)
    key = {name: version(name) for name in dict.fromkeys((runtime, *makers))}

    def compiled(shape: Shape) -> Program:
        write = partial(_write, runtime, made, model, precision, shape, seen)
        if cache is not None:
            folder = cache.kept(label(runtime, precision, shape), key, write)
            return of_tensors(made.open(folder / _file(made)))
        with TemporaryDirectory() as folder_name:
            write(Path(folder_name))
            return of_tensors(made.open(Path(folder_name, _file(made))))

    return Compiled(runtime, model, precision, compiled, cache, key)


def _file(made: Format) -> str:
    return f"model{made.suffix}"


def _write(
    runtime: str,
    made: Format,
    model: DenseModel,
    precision: str,
    shape: Shape,
    seen: Seen | None,
    folder: Path,
) -> None:
    """Exports a model for one shape into a folder.

    Raises:
        EngineError: The model cannot be exported.
        CalibrationError: The images that scales are measured on are missing or cannot be read.
    """
    batch, *sides = shape
    example, file = Example(tuple(sides), batch), folder / _file(made)
    pairs = _pairs(seen) if precision == "int8" else []
    with torch.inference_mode(False):
        try:
            if precision == "int8":
                export_int8(made, model, example, file, pairs)
            else:
                made.export(model, example, file, precision)
        except ImportError:
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise EngineError(
                f"engine={runtime}: expected a model that can be exported, got {why};"
                " engine=eager exports nothing"
            ) from error


def _pairs(seen: Seen | None) -> list[Pair]:
    if seen is None:
        raise CalibrationError(
            "precision=int8: expected images to measure scales on, got none;"
            " calibration=FOLDER, or Predictor(..., calibration=calibrate_on(IMAGES))"
        )
    return seen()


def of_tensors(program: FileProgram) -> Program:
    """Lets a program of arrays be called with tensors."""

    def run(image: Tensor, size: Tensor) -> Mapping[str, Tensor]:
        found = program(image.numpy(), size.numpy())
        return {name: torch.from_numpy(value) for name, value in found.items()}

    return run
