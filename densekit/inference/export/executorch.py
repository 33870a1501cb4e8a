"""`format=executorch`: a program for phones and boards, run by XNNPACK on their processor.

    program = Runtime.get().load_program("model.pte").load_method("forward")
    logits, = program.execute([image, size])      # in the order of outputs.json

Heads that suppress boxes cannot be lowered: neither a stable sort, the loop of suppression nor the
gather of RoIAlign has a kernel there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch._export.verifier import SpecViolationError

from densekit._extras import need
from densekit.inference.export.archive import read_texts, write_texts
from densekit.inference.export.base import (
    Example,
    Format,
    Program,
    as_program,
    heads_with_boxes,
    traced,
)
from densekit.inference.fold import folded
from densekit.model import DenseModel

PURPOSE, EXTRA = "format=executorch", "executorch"
OUTPUTS = "outputs.json"
"""Text in the file: the names of the outputs, which the program returns as a list."""


def export_executorch(model: DenseModel, example: Example, file: Path, precision: str) -> None:
    """Lowers a model to XNNPACK, and what that lacks to portable kernels.

    Args:
        model: On the CPU.
        example: The shapes.
        file: Name that ends in .pte.
        precision: "fp32".

    Raises:
        ImportError: ExecuTorch is not installed.
        ValueError: A head needs an operator that ExecuTorch lacks.
    """
    exir = need("executorch.exir", PURPOSE, EXTRA)
    xnnpack = need("executorch.backends.xnnpack.partition.xnnpack_partitioner", PURPOSE, EXTRA)
    # XNNPACK's passes refuse weights that are channels_last already.
    program = traced(folded(model).to(memory_format=torch.contiguous_format), example)
    partitioner = xnnpack.XnnpackPartitioner()
    try:
        lowered = exir.to_edge_transform_and_lower(program, partitioner=[partitioner])
    except SpecViolationError as error:
        missing = re.search(r"aten\.[\w.]+", str(error))
        names = ", ".join(heads_with_boxes(model) or model.heads)
        raise ValueError(
            f"format: expected torch_export, onnx, openvino or aotinductor for heads {names}, got"
            f" executorch, which lacks {missing[0] if missing else 'an operator of theirs'};"
            " heads=[NAME] exports others alone"
        ) from error
    file.write_bytes(lowered.to_executorch().buffer)
    write_texts(file, {OUTPUTS: json.dumps(list(program.call_spec.out_spec.context))})


def open_executorch(file: Path) -> Program:
    """Loads a program that `export_executorch` wrote."""
    names = json.loads(read_texts(file)[OUTPUTS])
    runtime = need("executorch.runtime", PURPOSE, EXTRA)
    method = runtime.Runtime.get().load_program(file).load_method("forward")

    def run(image: Tensor, size: Tensor) -> Mapping[str, Tensor]:
        return dict(zip(names, method.execute([image, size]), strict=True))

    return as_program(run)


FORMAT = Format(
    name="executorch",
    suffix=".pte",
    precisions=("fp32",),
    dynamic=(),
    export=export_executorch,
    open=open_executorch,
    read_facts=read_texts,
    write_facts=write_texts,
)
