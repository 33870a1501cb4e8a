"""`densekit export precision=int8`: as many layers in 8 bits as the gate accepts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from densekit.app.studies.export_parity import Ground

if TYPE_CHECKING:
    from densekit.inference.export.base import Example, Format, Program
    from densekit.inference.export.gate import Parity
    from densekit.model import DenseModel

log = logging.getLogger(__name__)


def write_int8(
    made: Format, model: DenseModel, example: Example, file: Path, ground: Ground
) -> Parity:
    """Writes a model in 8 bits, and compares the two.

    If that moves a result beyond its limit, the first and last layers stay in float32; if it still
    does, layers return to float32 one by one, those that cost most first.

    Args:
        made: A format with int8.
        model: On the CPU, in evaluation mode.
        example: The shapes.
        file: Name that ends like the format's.
        ground: What is compared on, and the calibration images.

    Returns:
        The differences of the last attempt, which may still be beyond their limits.
    """
    from densekit.inference.calibration import fitted
    from densekit.inference.export.gate import Pair, joined, on_other_noise
    from densekit.inference.export.int8 import quantize_onnx, quantize_onnx_within
    from densekit.inference.export.onnx import export_onnx, open_onnx
    from densekit.inference.export.pictures import as_pictures

    def compared(program: Program, name: str) -> Parity:
        pair = Pair.of(model, program, example, name, "int8")
        return ground.compare(pair, example, ground.overrides.trust)

    def margin(program: Program) -> float:
        return -excess(compared(program, "onnx"))

    assert made.from_onnx is not None
    batches: Any = fitted(model, ground.seen(model), (example.batch, *example.sides))
    if example.resize:
        batches = as_pictures(batches, model.full_scale)
    with TemporaryDirectory() as folder:
        plain, small = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        export_onnx(model, example, plain)
        other = []
        if "size" in example.dynamic:  # in float32: scales are not measured on noise
            pair = Pair.of(model, open_onnx(plain), example, "onnx", "fp32")
            other.append(on_other_noise(pair, example))
        for attempt in range(3):
            if attempt < 2:
                quantize_onnx(plain, small, batches, exact_ends=attempt == 1)
            else:
                quantize_onnx_within(plain, small, batches, margin, max_drop=1)
            made.from_onnx(small, file)
            parity = compared(made.open(file), made.name)
            if not parity.beyond:
                break
            log.warning("%s", "; ".join([NEXT[attempt], *map(str, parity.beyond)]))
    return joined([parity, *other])


NEXT: Sequence[str] = (
    "int8: the first and last layers return to float32",
    "int8: further layers return to float32, which takes long",
    "int8: no layers are left that could return to float32",
)
"""What follows each attempt."""


def excess(parity: Parity) -> float:
    """The largest difference relative to its limit: at most 1 if all are accepted."""
    return max((row.difference / row.limit for row in parity.measured if row.compared), default=0)
