"""`format=aotinductor`: a compiled package, for PyTorch on a processor like the one that made it.

program = torch._inductor.aoti_load_package("model.pt2")
predictions = program(image.contiguous(), size)      # {"detection/boxes": ..., ...}

Its kernels read raw memory: an image in channels_last would be read as another one, silently.
"""

from __future__ import annotations

from pathlib import Path

import torch

from densekit.inference.export.archive import check_parts, read_texts, write_texts
from densekit.inference.export.base import Example, Format, Program, as_program, traced
from densekit.inference.fold import folded
from densekit.model import DenseModel


def export_aotinductor(model: DenseModel, example: Example, file: Path, precision: str) -> None:
    """Compiles a model with Inductor, weights and constants folded in; needs a C++ compiler.

    Args:
        model: On the CPU.
        example: The shapes.
        file: Name that ends in .pt2.
        precision: "fp32" or "bf16".
    """
    program = traced(folded(model), example, precision)
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(file), inductor_configs={"freezing": True}
    )


def open_aotinductor(file: Path) -> Program:
    """Loads a package that `export_aotinductor` wrote."""
    check_parts(file)
    return as_program(torch._inductor.aoti_load_package(str(file)))


FORMAT = Format(
    name="aotinductor",
    suffix=".pt2",
    precisions=("fp32", "bf16"),
    dynamic=("batch",),
    export=export_aotinductor,
    open=open_aotinductor,
    read_facts=read_texts,
    write_facts=write_texts,
)
