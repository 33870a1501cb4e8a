"""The openvino engine: the model in OpenVINO's format, run by its CPU plug-in."""

from __future__ import annotations

from densekit._extras import check_installed
from densekit.inference.engine import Engine, Seen
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.exported import build_exported
from densekit.inference.export.openvino import FORMAT
from densekit.model import DenseModel


def build(
    model: DenseModel, precision: str, cache: Cache | None, seen: Seen | None = None
) -> Engine:
    """Builds the engine; see `densekit.inference.engines.build_engine`."""
    # looked for and not imported, which takes seconds and is needed to build a program alone
    for package in ("onnxscript", "openvino"):
        check_installed(package, "engine=openvino", "export")
    if precision == "int8":
        check_installed("nncf", "precision=int8", "export")
    return build_exported("openvino", FORMAT, model, precision, cache, seen)
