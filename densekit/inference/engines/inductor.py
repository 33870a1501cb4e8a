"""The inductor engine: the model compiled for this processor by PyTorch's Inductor.

Each shape is traced by `torch.export`, with the formulations that are fastest on this machine, and
compiled ahead of time, with the weights laid out for its kernels (freezing). The package that this
gives is loaded by the next start without tracing or compiling anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from densekit.inference.engine import Engine
from densekit.inference.engines.buckets import Shape
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.compiled import Compiled, Program, label
from densekit.inference.engines.prepared import prepared
from densekit.inference.engines.proof import EngineError
from densekit.inference.export.base import Example, traced
from densekit.model import DenseModel
from densekit.ops.portable import for_this_machine

PACKAGE = "program.pt2"


def build(model: DenseModel, precision: str, cache: Cache | None) -> Engine:
    """Builds the engine; see `densekit.inference.engine.build_engine`."""
    key = {"threads": str(torch.get_num_threads())}

    def compiled(shape: Shape) -> Program:
        write = partial(write_package, model, precision, shape)
        if cache is not None:
            return _load(cache.kept(label("inductor", precision, shape), key, write))
        with TemporaryDirectory() as folder:
            write(Path(folder))
            return _load(Path(folder))

    return Compiled("inductor", model, precision, compiled, cache, key)


def write_package(model: DenseModel, precision: str, shape: Shape, folder: Path) -> None:
    """Compiles a model for batches of one shape.

    Args:
        model: In eval mode, on the CPU.
        precision: "fp32" or "bf16".
        shape: (B, *S).
        folder: Receives `PACKAGE`.

    Raises:
        EngineError: Inductor cannot compile the model, or there is no C++ compiler.
    """
    from torch._inductor import aoti_compile_and_package

    batch, *sides = shape
    with torch.inference_mode(False), torch.no_grad():
        try:
            with for_this_machine():
                program = traced(prepared(model), Example(tuple(sides), batch), precision)
            aoti_compile_and_package(
                program,
                package_path=str(folder / PACKAGE),
                inductor_configs={"freezing": True},
            )
        except Exception as error:
            why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise EngineError(
                f"engine=inductor: expected a model that torch {torch.__version__} can compile,"
                f" got {why}; engine=eager compiles nothing"
            ) from error


def _load(folder: Path) -> Program:
    from torch._inductor import aoti_load_package

    run: Callable[[Tensor, Tensor], Mapping[str, Tensor]] = aoti_load_package(str(folder / PACKAGE))
    return run
