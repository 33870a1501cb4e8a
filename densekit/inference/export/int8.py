"""int8: quantisation of an exported file after training, by NNCF.

Layers with weights compute in 8 bits, with scales measured on calibration images. Predictors (the
last such layer before each output, and before the boxes of the proposals) and all that follows them
stay in float32, except for those of pixels: on a large map float32 takes as long as all the rest.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

from densekit._extras import need
from densekit.inference.calibration import fitted
from densekit.inference.engine import Pair
from densekit.inference.export.base import Example, Format, Program
from densekit.inference.export.onnx import export_onnx, run_session
from densekit.inference.inferer import LOGITS
from densekit.model import DenseModel

Calibration = Iterable[tuple[NDArray[Any], ...]]
"""Inputs of the file: `image` (B, C, *S) and `size` (B, D), of the shapes it was exported for; or
`picture` (H, W, C) alone."""
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PICKING = ("RoiAlign", "Gather", "GatherElements", "GatherND")
"""Operators whose further inputs, regions and indices, are ends like the outputs."""
PURPOSE = "precision=int8"
SUBSET = 300
"""Most batches that the scales are measured on."""


def export_int8(
    made: Format, model: DenseModel, example: Example, file: Path, pairs: Iterable[Pair]
) -> None:
    """Writes a model in 8 bits.

    Args:
        made: A format with int8.
        model: On the CPU, in evaluation mode.
        example: The shapes.
        file: Name that ends like the format's.
        pairs: What the network sees of calibration images.

    Raises:
        ImportError: A package of the extra `export` is not installed.
    """
    assert made.from_onnx is not None
    _nncf()
    with TemporaryDirectory() as folder:
        plain, small = Path(folder, "plain.onnx"), Path(folder, "int8.onnx")
        export_onnx(model, example, plain)
        quantize_onnx(plain, small, fitted(model, pairs, (example.batch, *example.sides)))
        made.from_onnx(small, file)


def quantize_onnx(
    source: Path, file: Path, calibration: Calibration, *, exact_ends: bool = False
) -> None:
    """Writes an ONNX file of densekit once more, its layers with weights in 8 bits.

    Args:
        source: A file of `export_onnx`.
        file: Name that ends in .onnx. `convert_onnx` makes an OpenVINO file of it.
        calibration: Some hundred images of the training data, as batches of the file's shape.
        exact_ends: Whether the first layers and the predictors of pixels stay in float32, too.

    Raises:
        ImportError: A package of the extra `export` is not installed.
    """
    nncf, onnx = _nncf(), need("onnx", PURPOSE, "export")
    model = onnx.load(source)
    with redirect_stdout(sys.stderr):  # of the bars of progress
        settings = _settings(nncf, model, exact_ends)
        quantized = nncf.quantize(model, _dataset(nncf, model, calibration), **settings)
    onnx.save(quantized, file)


def quantize_onnx_within(
    source: Path,
    file: Path,
    calibration: Calibration,
    metric: Callable[[Program], float],
    max_drop: float,
) -> None:
    """Quantises like `quantize_onnx`, then returns layers to float32 until a metric is kept.

    The first layers and the predictors of pixels are in float32 from the start, of the others those
    that cost most go first. The metric is computed some ten times or more.

    Args:
        source: A file of `export_onnx`.
        file: Name that ends in .onnx.
        calibration: See `quantize_onnx`.
        metric: Measures a program on images of the caller's choice, such as AP; larger is better.
        max_drop: Largest difference between the metric in float32 and in 8 bits.
    """
    nncf, onnx = _nncf(), need("onnx", PURPOSE, "export")
    runtime = need("onnxruntime", PURPOSE, "export")
    model = onnx.load(source)

    def measured(model: Any, items: Any) -> tuple[float, None]:
        session = runtime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return float(metric(run_session(session))), None

    data = _dataset(nncf, model, calibration)
    with redirect_stdout(sys.stderr):
        quantized = nncf.quantize_with_accuracy_control(
            model,
            data,
            data,
            measured,
            max_drop=max_drop,
            **_settings(nncf, model, exact_ends=True),
        )
    onnx.save(quantized, file)


def _nncf() -> Any:
    """The package, told before its import to send no statistics of its use."""
    os.environ.setdefault("NNCF_CI", "1")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no CUDA"
    return need("nncf", PURPOSE, "export")


def _dataset(nncf: Any, model: Any, calibration: Calibration) -> Any:
    names = [one.name for one in model.graph.input]
    return nncf.Dataset(calibration, lambda inputs: dict(zip(names, inputs, strict=True)))


def _settings(nncf: Any, model: Any, exact_ends: bool) -> dict[str, Any]:
    logging.getLogger("nncf").setLevel(logging.ERROR)
    exact = [*exact_nodes(model.graph), *resizing(model.graph)]
    exact += ends(model.graph) if exact_ends else ()
    return {
        "subset_size": SUBSET,
        "preset": nncf.QuantizationPreset.MIXED,  # activations other than ReLU's are signed
        "ignored_scope": nncf.IgnoredScope(names=exact, validate=False),
    }


def exact_nodes(graph: Any) -> list[str]:
    """Names of the nodes that stay in float32: predictors and all after them, RoI pooling.

    A layer with weights is a predictor if no other such layer lies after it, see `PICKING`; one of
    pixels is in 8 bits nevertheless. Pooling is among them because no scale can be measured on a
    level to which no region of the calibration images belongs; depthwise convolutions are because
    they are slower in 8 bits.

    Args:
        graph: An `onnx.GraphProto`, its nodes in the order of execution.
    """
    read_by_layer: set[str] = set()  # tensors that a layer with weights depends on
    for node in reversed(graph.node):
        if node.op_type in WEIGHTED:
            read_by_layer.add(node.input[0])
        elif not read_by_layer.isdisjoint(node.output):
            read_by_layer.update(node.input[:1] if node.op_type in PICKING else node.input)
    of_pixels = _predictors_of_pixels(graph)
    pooled: set[str] = set()  # tensors between pooling and the next layer
    names = []
    for node in graph.node:
        is_layer = node.op_type in WEIGHTED
        if node.op_type == "RoiAlign" or (not is_layer and not pooled.isdisjoint(node.input)):
            pooled.update(node.output)
            names.append(node.name)
        elif node.name in of_pixels:
            continue
        elif read_by_layer.isdisjoint(node.output) or _is_depthwise(node, graph):
            names.append(node.name)
    return names


def resizing(graph: Any) -> list[str]:
    """Names of the nodes that resize a picture, which compute positions of pixels.

    They are all that no convolution precedes, the normalisation included.

    Args:
        graph: An `onnx.GraphProto`, its nodes in the order of execution.
    """
    if [one.name for one in graph.input] != ["picture"]:
        return []
    after: set[str] = set()  # tensors that a convolution precedes
    names = []
    for node in graph.node:
        if node.op_type == "Conv" or not after.isdisjoint(node.input):
            after.update(node.output)
        else:
            names.append(node.name)
    return names


def ends(graph: Any) -> set[str]:
    """Names of the layers with weights that no other such layer precedes, or that predict pixels.

    Args:
        graph: An `onnx.GraphProto`, its nodes in the order of execution.
    """
    found = _predictors_of_pixels(graph)
    after: set[str] = set()  # tensors that a layer precedes
    for node in graph.node:
        is_after = not after.isdisjoint(node.input)
        if node.op_type in WEIGHTED and not is_after:
            found.add(node.name)
        if node.op_type in WEIGHTED or is_after:
            after.update(node.output)
    return found


def _predictors_of_pixels(graph: Any) -> set[str]:
    """Names of the layers whose output becomes the logits of pixels."""
    wanted = {made.name for made in graph.output if made.name.rpartition("/")[2] in LOGITS}
    found = set()
    for node in reversed(graph.node):
        if wanted.isdisjoint(node.output):
            continue
        if node.op_type in WEIGHTED:
            found.add(node.name)
        else:
            wanted.update(node.input)
    return found


def _is_depthwise(node: Any, graph: Any) -> bool:
    """Whether a node is a convolution with one input channel per group, and several groups."""
    if node.op_type != "Conv" or all(one.i <= 1 for one in node.attribute if one.name == "group"):
        return False
    shapes = [one.dims for one in graph.initializer if one.name == node.input[1]]
    return any(dims[1] == 1 for dims in shapes)
