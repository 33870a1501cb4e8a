"""The onnxruntime engine: the model as an ONNX file, run by ONNX Runtime."""

from __future__ import annotations

from densekit._extras import check_installed, need
from densekit.inference.engine import Engine, Seen
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.exported import build_exported
from densekit.inference.export.onnx import FORMAT
from densekit.model import DenseModel


def build(
    model: DenseModel, precision: str, cache: Cache | None, seen: Seen | None = None
) -> Engine:
    """Builds the engine; see `densekit.inference.engines.build_engine`."""
    for package in ("onnxscript", "onnxruntime"):
        need(package, "engine=onnxruntime", "export")
    if precision == "int8":
        check_installed("nncf", "precision=int8", "export")  # its import takes seconds
    return build_exported("onnxruntime", FORMAT, model, precision, cache, seen)
