"""`format=torch_export`: a program of `torch.export`, for PyTorch without densekit.

program = torch.export.load("model.pt2").module()
predictions = program(image, size)      # {"detection/boxes": ..., ...}
"""

from __future__ import annotations

import io
from pathlib import Path

import torch

from densekit.inference.export.archive import check_parts, read_texts, write_texts
from densekit.inference.export.base import (
    Example,
    Format,
    Program,
    as_program,
    traced,
)
from densekit.inference.fold import folded
from densekit.model import DenseModel


def export_program(model: DenseModel, example: Example, file: Path, precision: str) -> None:
    """Writes a model as a program of `torch.export`.

    Args:
        model: On the CPU.
        example: The shapes.
        file: Name that ends in .pt2.
        precision: "fp32" or "bf16".
    """
    program = traced(folded(model), example, precision)
    if precision != "fp32":  # torch cannot store autocast within autocast, only the casts it makes
        program = program.run_decompositions({})
    content = io.BytesIO()  # torch's own writer of files ends the process if the disk is full
    torch.export.save(program, content)
    file.write_bytes(content.getbuffer())


def open_program(file: Path) -> Program:
    """Loads a program that `export_program` wrote."""
    check_parts(file)
    return as_program(torch.export.load(file).module())


FORMAT = Format(
    name="torch_export",
    suffix=".pt2",
    precisions=("fp32", "bf16"),
    dynamic=("batch", "size"),
    export=export_program,
    open=open_program,
    read_facts=read_texts,
    write_facts=write_texts,
)
