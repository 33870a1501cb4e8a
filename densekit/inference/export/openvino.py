"""`format=openvino`: a model and its post-processing in OpenVINO's two files, .xml and .bin.

OpenVINO computes in bfloat16 by default on processors that have it, boxes included, so that a file
says what it was made for and is compiled with that hint:

    model = openvino.Core().read_model("model.xml")
    hint = {"INFERENCE_PRECISION_HINT": "f32"}      # or "bf16" for precision=bf16
    compiled = openvino.Core().compile_model(model, "CPU", hint)
    outputs = compiled([image, size])               # outputs["detection/boxes"], ...
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._extras import need
from densekit.inference.export.base import Example, Format, Program
from densekit.inference.export.digest import DIGEST, check_digest, digest
from densekit.inference.export.onnx import export_onnx
from densekit.model import DenseModel

PURPOSE, EXTRA = "format=openvino", "export"
SECTION = "densekit"
"""Element of the file's `rt_info` that holds the texts."""
HINT = "precision_hint"
"""Text in the file: the value of `INFERENCE_PRECISION_HINT` that it is compiled with."""
HINTS = {"fp32": "f32", "bf16": "bf16"}
REGIONS = "regions"
"""Output of a detector in bfloat16 that no one needs: image and box of what is pooled, (R, 5)."""
FRAME = "frame"
"""Output of a file for pictures in bfloat16 that no one needs: what the first layer reads."""


def export_openvino(
    model: DenseModel, example: Example, file: Path, precision: str = "fp32"
) -> None:
    """Writes a model as .xml and .bin, by way of ONNX.

    With `precision="bf16"` the network computes in bfloat16, RoI pooling included; boxes, their
    levels, scores and suppression stay in float32.

    Args:
        model: On the CPU.
        example: See `densekit.inference.export.onnx.export_onnx`.
        file: Name that ends in .xml; the .bin lies beside it.
        precision: "fp32" or "bf16".

    Raises:
        ImportError: A package of the extra `export` is not installed.
    """
    need("openvino", PURPOSE, EXTRA)
    with TemporaryDirectory() as folder:
        source = Path(folder, "model.onnx")
        export_onnx(model, example, source)
        convert_onnx(source, file, precision)


def convert_onnx(source: Path, file: Path, precision: str = "fp32") -> None:
    """Converts an ONNX file of densekit to OpenVINO, see `export_openvino`."""
    openvino = need("openvino", PURPOSE, EXTRA)
    model = openvino.Core().read_model(source)
    _suppress_as_onnx(model)
    if precision == "bf16":
        _keep_regions_exact(model)
        _keep_picture_exact(model)
    openvino.save_model(model, file, compress_to_fp16=False)
    write_rt_info(file, {HINT: HINTS[precision]})


def _suppress_as_onnx(model: Any) -> None:
    """Raises the threshold of suppression to the next float32.

    OpenVINO suppresses a box whose IoU equals the threshold, ONNX defines that it survives.
    """
    ops = need("openvino.opset13", PURPOSE, EXTRA)
    for node in model.get_ordered_ops():
        if node.get_type_name() == "NonMaxSuppression":
            limit = node.input_value(3).get_node().get_data()
            above = ops.constant(np.nextafter(np.float32(limit), np.float32(np.inf)))
            node.input(3).replace_source_output(above.output(0))


def _keep_regions_exact(model: Any) -> None:
    """Adds the regions that are pooled as the output `REGIONS`.

    OpenVINO keeps in float32 what lies between the last layer with weights and an output. So an
    output is what keeps boxes exact: in bfloat16 a coordinate of 800 is off by 2 pixels.
    """
    ops = need("openvino.opset13", PURPOSE, EXTRA)
    rows = []
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ROIAlign":
            image = ops.convert(ops.unsqueeze(node.input_value(2), 1), "f32")
            rows.append(ops.concat([image, node.input_value(1)], 1))
    if rows:
        _add_output(model, ops.concat(rows, 0).output(0), REGIONS)


def _keep_picture_exact(model: Any) -> None:
    """Adds the resized picture as the output `FRAME`, so that its pixels are found in float32."""
    if [one.get_any_name() for one in model.inputs] != ["picture"]:
        return
    first = next(n for n in model.get_ordered_ops() if "Convolution" in n.get_type_name())
    ops = need("openvino.opset13", PURPOSE, EXTRA)
    _add_output(model, ops.convert(first.input_value(0), "f32").output(0), FRAME)


def _add_output(model: Any, value: Any, name: str) -> None:
    value.get_tensor().set_names({name})
    model.add_outputs(value)


def open_openvino(file: Path) -> Program:
    """Loads a file that `export_openvino` wrote, for the CPU."""
    return run_compiled(compiled(file))


def compiled(file: Path) -> Any:
    """Returns the `openvino.CompiledModel` of a file, for the CPU."""
    core = need("openvino", PURPOSE, EXTRA).Core()
    return core.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": read_rt_info(file)[HINT]})


def run_compiled(compiled: Any) -> Program:
    """Lets a compiled model be called as a program."""
    request = compiled.create_infer_request()
    # by HEAD/KEY: a compiled output may have the name of an inner tensor, too
    names = [name for output in compiled.outputs for name in output.get_names() if "/" in name]
    inputs = [one.get_any_name() for one in compiled.inputs]

    def run(*arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        found = request.infer(dict(zip(inputs, arrays, strict=True)))
        return {name: found[name] for name in names}

    return run


def read_rt_info(file: Path) -> dict[str, str]:
    """Reads the texts stored in an .xml, without loading the model.

    Raises:
        ValueError: densekit has not written it, or it or its .bin is damaged.
    """
    try:
        root = ElementTree.parse(file).getroot()  # nosec B314
        section = root.find(f"rt_info/{SECTION}")
        if section is None:
            raise ValueError(f"expected the element rt_info/{SECTION} in it, got none")
        texts = _texts(section)
        found = digest(_content(file, root), texts) if DIGEST in texts else ""
    except (OSError, ValueError, ElementTree.ParseError) as error:
        raise ValueError(
            f"{file}: expected a file exported by densekit, got another one: {error}"
        ) from error
    check_digest(file, texts.get(DIGEST, ""), found)
    return texts


def write_rt_info(file: Path, texts: Mapping[str, str]) -> None:
    """Stores texts in an .xml, beside those that it has; OpenVINO shows them as `rt_info`."""
    tree = ElementTree.parse(file)  # nosec B314
    section = _child(tree.getroot(), ("rt_info", SECTION))
    for name, text in texts.items():
        _child(section, (name,)).set("value", text)
    found = digest(_content(file, tree.getroot()), _texts(section))
    _child(section, (DIGEST,)).set("value", found)
    tree.write(file)


def _texts(section: Any) -> dict[str, str]:
    return {text.tag: str(text.get("value")) for text in section}


def _content(file: Path, root: Any) -> bytes:
    """The .xml without the texts, and the .bin."""
    bare = copy.deepcopy(root)
    rt_info = bare.find("rt_info")
    rt_info.remove(rt_info.find(SECTION))
    return ElementTree.tostring(bare) + file.with_suffix(".bin").read_bytes()


def _child(element: Any, names: Iterable[str]) -> Any:
    """The descendant by its path, made where it is missing."""
    for name in names:
        found = element.find(name)
        element = ElementTree.SubElement(element, name) if found is None else found
    return element


FORMAT = Format(
    name="openvino",
    suffix=".xml",
    precisions=("fp32", "bf16", "int8"),
    dynamic=("batch", "size"),
    export=export_openvino,
    open=open_openvino,
    read_facts=read_rt_info,
    write_facts=write_rt_info,
    from_onnx=convert_onnx,
)
