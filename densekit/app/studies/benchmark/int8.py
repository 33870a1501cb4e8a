"""Our network in 8 bits, with scales measured on the benchmark's own images."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from densekit.inference.engines.buckets import Shape, fill
from densekit.inference.engines.compiled import Compiled, Program
from densekit.inference.engines.exported import of_tensors
from densekit.inference.export.base import Example
from densekit.inference.export.int8 import quantize_onnx
from densekit.inference.export.onnx import export_onnx, open_onnx
from densekit.inference.export.openvino import convert_onnx, open_openvino
from densekit.model import DenseModel
from densekit.types import Batch

RUNTIMES = ("onnxruntime", "openvino")


def int8_engine(runtime: str, model: DenseModel, batch: Batch) -> Compiled:
    """An engine that computes in 8 bits.

    Args:
        runtime: One of `RUNTIMES`.
        model: In eval mode, on the CPU.
        batch: Images that are calibrated on, and later predicted.
    """

    def compiled(shape: Shape) -> Program:
        image, size = fill(model.in_unit(batch["image"]).float(), batch["size"], shape)
        count, *sides = shape
        with TemporaryDirectory() as folder, torch.inference_mode(False):
            plain, small, file = (
                Path(folder, name) for name in ("plain.onnx", "int8.onnx", "int8.xml")
            )
            export_onnx(model, Example(tuple(sides), count), plain)
            quantize_onnx(plain, small, [(image.numpy(), size.numpy())])
            if runtime == "onnxruntime":
                return of_tensors(open_onnx(small))
            convert_onnx(small, file)
            return of_tensors(open_openvino(file))

    return Compiled(runtime, model, "int8", compiled)
