"""Files in 8 bits: predictors and boxes stay in float32, the outputs stay near."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from densekit.backbones import ResNet
from densekit.heads import FCN, FasterRCNN
from densekit.heads.faster_rcnn import RPN, BoxHead
from densekit.heads.faster_rcnn.rules import ProposalRule
from densekit.inference.calibration import CalibrationError
from densekit.inference.engines.onnxruntime import build
from densekit.inference.engines.proof import EngineError
from densekit.inference.export.base import Example, Program
from densekit.inference.export.int8 import (
    WEIGHTED,
    ends,
    exact_nodes,
    quantize_onnx,
    quantize_onnx_within,
    resizing,
)
from densekit.inference.export.onnx import export_onnx, open_onnx
from densekit.inference.export.openvino import open_openvino
from densekit.model import DenseModel
from densekit.necks import FPN

PAGE = Path(__file__).resolve().parents[4] / "docs/export.md"
HEAD = partial(FCN, num_classes=2, level="c3", aux_level=None)


def graph_of(*nodes: tuple[str, list[str], str]) -> onnx.GraphProto:
    made = [onnx.helper.make_node(kind, read, [made], name=made) for kind, read, made in nodes]
    return onnx.helper.make_graph(made, "graph", [], [])


def test_predictors_and_boxes_are_exact() -> None:
    """A backbone, a first predictor whose boxes are pooled, a second one."""
    graph = graph_of(
        ("Conv", ["image", "w"], "backbone"),
        ("Relu", ["backbone"], "features"),
        ("Conv", ["features", "w"], "rpn"),
        ("Exp", ["rpn"], "rois"),
        ("RoiAlign", ["features", "rois", "batch"], "pooled"),
        ("Gather", ["pooled", "order"], "rows"),
        ("Gemm", ["rows", "w"], "hidden"),
        ("Relu", ["hidden"], "activated"),
        ("Gemm", ["activated", "w"], "logits"),
        ("Softmax", ["logits"], "scores"),
    )
    exact = {"rpn", "rois", "pooled", "rows", "logits", "scores"}
    assert set(exact_nodes(graph)) == exact


def test_predictors_of_pixels_are_in_8_bits_and_depthwise_convolutions_are_not() -> None:
    graph = graph_of(
        ("Conv", ["image", "w"], "backbone"),
        ("Conv", ["backbone", "each"], "depthwise"),
        ("Conv", ["depthwise", "w"], "pixels"),
        ("Resize", ["pixels"], "masks/logits"),
        ("Conv", ["depthwise", "w"], "classes"),
        ("Softmax", ["classes"], "kind/probabilities"),
    )
    graph.node[1].attribute.append(onnx.helper.make_attribute("group", 4))
    graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 1, 3, 3), "f4"), "each"))
    for name in ("masks/logits", "kind/probabilities"):
        graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    exact = {"depthwise", "masks/logits", "classes", "kind/probabilities"}
    assert set(exact_nodes(graph)) == exact
    assert ends(graph) == {"backbone", "pixels"}


def exported(model: DenseModel, folder: Path) -> tuple[Path, list[tuple[np.ndarray, np.ndarray]]]:
    example = Example((64, 64))
    export_onnx(model, example, folder / "model.onnx")
    batches = [example.noise(model, seed) for seed in range(4)]
    return folder / "model.onnx", [(image.numpy(), size.numpy()) for image, size in batches]


@pytest.mark.slow
def test_masks_in_both_runtimes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the code that docs/export.md shows."""
    torch.manual_seed(0)
    source, batches = exported(DenseModel(ResNet(18, width=8), {"masks": HEAD}).eval(), tmp_path)
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)[0]
    exec(block, {"calibration": batches})
    expected = open_onnx(source)(*batches[0])["masks/logits"]
    for program in (open_onnx(tmp_path / "int8.onnx"), open_openvino(tmp_path / "int8.xml")):
        off = np.linalg.norm(program(*batches[0])["masks/logits"] - expected)
        assert 0 < off < 0.2 * np.linalg.norm(expected)


@pytest.mark.slow
def test_scales_of_other_images_are_refused() -> None:
    torch.manual_seed(0)
    model = DenseModel(ResNet(18, width=8), {"masks": HEAD}).eval()
    image, size = Example((64, 64)).noise(model)
    seen = [(model.mean.expand_as(image), size)]  # grey: all activations are small
    with pytest.raises(EngineError, match="wrong numbers here in int8: heads.masks: expected logi"):
        build(model, "int8", None, seen=lambda: seen).predict({"image": image, "size": size})
    with pytest.raises(CalibrationError, match="expected images to measure scales on, got none; c"):
        build(model, "int8", None).predict({"image": image, "size": size})


@pytest.mark.slow
def test_a_detector(tmp_path: Path) -> None:
    torch.manual_seed(0)
    rpn = partial(RPN, proposals=ProposalRule(test_pre_nms=100, test_post_nms=60))
    head = partial(FasterRCNN, num_classes=2, rpn=rpn, box_head=partial(BoxHead, hidden=(16,)))
    model = DenseModel(ResNet(18, width=8), {"boxes": head}, partial(FPN, out_channels=16)).eval()
    source, batches = exported(model, tmp_path)
    file = tmp_path / "int8.onnx"
    quantize_onnx(source, file, batches)
    kept = set(exact_nodes(onnx.load(source).graph))
    layers = {n.name: n for n in onnx.load(file).graph.node if n.op_type in WEIGHTED}
    made = {out: n for n in onnx.load(file).graph.node for out in n.output}
    in_8_bits = {
        name
        for name, node in layers.items()
        if getattr(made.get(node.input[0]), "op_type", "") == "DequantizeLinear"
    }
    assert in_8_bits <= set(layers) - kept
    assert len(in_8_bits) > 20
    assert len(set(layers) & kept) == 5 + 2  # RPN predictors of 5 levels, logits and deltas
    assert np.isfinite(open_onnx(file)(*batches[0])["boxes/boxes"]).all()


@pytest.mark.slow
def test_layers_return_to_float32_until_the_metric_is_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, batches = exported(DenseModel(ResNet(18, width=8), {"masks": HEAD}).eval(), tmp_path)
    expected = open_onnx(source)(*batches[0])["masks/logits"]

    def metric(program: Program) -> float:
        off = np.linalg.norm(program(*batches[0])["masks/logits"] - expected)
        return float(1 - off / np.linalg.norm(expected))

    quantize_onnx(source, tmp_path / "all.onnx", batches)
    drop = (1 - metric(open_onnx(tmp_path / "all.onnx"))) / 2
    quantize_onnx_within(source, tmp_path / "int8.onnx", batches, metric, drop)
    assert metric(open_onnx(tmp_path / "int8.onnx")) >= 1 - drop


def test_positions_of_pixels_stay_exact() -> None:
    """In 8 bits a picture has 256 of them."""
    graph = graph_of(
        ("Cast", ["picture"], "grey"),
        ("MatMul", ["grey", "places"], "resized"),
        ("Conv", ["resized", "weight"], "features"),
        ("Relu", ["features"], "head/mask"),
    )
    for name, expected in (("picture", ["grey", "resized"]), ("image", [])):
        graph.input.append(onnx.helper.make_empty_tensor_value_info(name))
        assert resizing(graph) == expected
        graph.input.pop()
