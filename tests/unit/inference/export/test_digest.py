"""One flipped bit in the content of an exported file is noticed, and the file not opened."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import openvino
import pytest
from openvino import opset13

from densekit.inference.export.base import CONFIG, INFO, PARITY, SHAPES
from densekit.inference.export.formats import facts_of, format_of

WEIGHTS = np.arange(1, 9, dtype=np.float32)
TEXTS = {INFO: '{"names": ["<a>", "\\n"]}', SHAPES: "{}", PARITY: "{}", CONFIG: "a: 1\nb: ä\n"}


def archive(file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("model/data/weights/0", WEIGHTS.tobytes())
    return file


def lowered(file: Path) -> Path:
    file.write_bytes(b"a program" + WEIGHTS.tobytes())
    return file


def onnx_model(file: Path) -> Path:
    kind, make = onnx.TensorProto.FLOAT, onnx.helper
    given, result = (make.make_tensor_value_info(name, kind, [8]) for name in ("x", "y"))
    weights = onnx.numpy_helper.from_array(WEIGHTS, "weights")
    graph = make.make_graph(
        [make.make_node("Add", ["x", "weights"], ["y"])], "tiny", [given], [result], [weights]
    )
    opset = [make.make_opsetid("", 20)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), file)
    return file


def openvino_model(file: Path) -> Path:
    given = opset13.parameter([8], np.float32, "x")
    model = openvino.Model([opset13.add(given, opset13.constant(WEIGHTS))], [given])
    openvino.save_model(model, file, compress_to_fp16=False)
    return file.with_suffix(".bin")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("torch_export", archive),
        ("aotinductor", archive),
        ("executorch", lowered),
        ("onnx", onnx_model),
        ("openvino", openvino_model),
    ],
)
def test_a_flipped_bit_is_noticed(name: str, make: Callable[[Path], Path], tmp_path: Path) -> None:
    made = format_of(name)
    file = tmp_path / f"model{made.suffix}"
    holder = make(file)
    made.write_facts(file, {"outputs.json": "[]", "precision_hint": "f32"})
    made.write_facts(file, TEXTS)
    assert facts_of(file).config == TEXTS[CONFIG]
    content = bytearray(holder.read_bytes())
    content[content.index(WEIGHTS.tobytes()) + 7] ^= 1
    holder.write_bytes(content)
    with pytest.raises(ValueError, match="expected an intact file, got a damaged one"):
        facts_of(file)
    with pytest.raises(ValueError, match="expected an intact file, got a damaged one"):
        made.open(file)


@pytest.mark.parametrize("old", ["network", "sha256"])
def test_a_damaged_text_is_noticed(old: str, tmp_path: Path) -> None:
    """In the network's description, which holds the shapes of layers, or in the digest's name."""
    made, file = format_of("openvino"), tmp_path / "model.xml"
    openvino_model(file)
    made.write_facts(file, TEXTS)
    names = {"network": ("<port ", "<qort "), "sha256": ("sha256", "sha257")}
    file.write_text(file.read_text("utf-8").replace(*names[old]), "utf-8")
    with pytest.raises(ValueError, match="expected"):
        facts_of(file)
