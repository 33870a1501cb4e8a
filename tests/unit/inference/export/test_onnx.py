"""ONNX and OpenVINO files answer as the model does, for every head."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densekit.backbones import ResNet
from densekit.heads import Classification, UNet
from densekit.heads.faster_rcnn import RPN, BoxHead
from densekit.heads.faster_rcnn.rules import PoolRule, ProposalRule
from densekit.heads.one_stage import ATSS, FCOS, SSD, YOLOX, RetinaNet
from densekit.heads.one_stage.rules import DenseDetectionRule, MultiBoxDetectionRule
from densekit.inference.export.base import Example, PredictionsByName, Program, as_program
from densekit.inference.export.formats import format_of
from densekit.inference.export.onnx import export_onnx, open_onnx
from densekit.inference.export.openvino import (
    REGIONS,
    compiled,
    convert_onnx,
    open_openvino,
    run_compiled,
)
from densekit.model import DenseModel
from densekit.necks import FPN
from tests.unit.inference.export.models import boxed_model, dense_model
from tests.unit.tiny import spread, tiny_detector

BOX_TOLERANCE, SCORE_TOLERANCE, LOGIT_TOLERANCE = 1e-3, 1e-5, 1e-4
BOXES = ("boxes", "scores", "labels", "valid")
Shapes = list[tuple[int, tuple[int, ...]]]


def programs(model: DenseModel, example: Example, folder: Path) -> list[Program]:
    """The model as ONNX and as OpenVINO, from one export."""
    file = folder / "model.onnx"
    export_onnx(model, example, file)
    convert_onnx(file, folder / "model.xml")
    return [open_onnx(file), open_openvino(folder / "model.xml")]


def check(model: DenseModel, program: Program, batch: int, sides: tuple[int, ...]) -> None:
    """Compares on noise, the images smaller than their frame."""
    image, size = Example(sides, batch).noise(model, seed=batch)
    size = size - torch.arange(batch)[:, None] * 3
    expected = as_program(PredictionsByName(model))(image.numpy(), size.numpy())
    found = program(image.numpy(), size.numpy())
    assert {k: (v.dtype, v.shape) for k, v in found.items()} == {
        k: (v.dtype, v.shape) for k, v in expected.items()
    }
    for name, value in expected.items():
        head, _, key = name.partition("/")
        if key == "boxes":
            check_boxes(*({k: of[f"{head}/{k}"] for k in BOXES} for of in (expected, found)))
        elif key not in (*BOXES, "overflow"):
            limit = LOGIT_TOLERANCE * np.abs(value).max()
            np.testing.assert_allclose(found[name], value, rtol=0, atol=limit, err_msg=name)


def check_boxes(expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Looks for every row in the other; rounding may swap near ties and decide an overlap."""
    for image in range(len(expected["valid"])):
        a, b = (
            {k: v[image][of["valid"][image]] for k, v in of.items()} for of in (expected, found)
        )
        assert len(a["boxes"]) > 10
        same = a["labels"][:, None] == b["labels"]
        same &= np.abs(a["boxes"][:, None] - b["boxes"]).max(-1) < BOX_TOLERANCE
        same &= np.abs(a["scores"][:, None] - b["scores"]) < SCORE_TOLERANCE
        assert same.any(1).mean() > 0.99
        assert same.any(0).mean() > 0.99


def check_all(model: DenseModel, example: Example, shapes: Shapes, folder: Path) -> None:
    model.eval()
    for program in programs(model, example, folder):
        for batch, sides in shapes:
            check(model, program, batch, sides)


def detector(**settings: Any) -> DenseModel:
    torch.manual_seed(0)
    rule = ProposalRule(test_pre_nms=100, test_post_nms=60)
    model = tiny_detector(rpn=partial(RPN, proposals=rule), **settings)
    spread(model)
    return model


@pytest.mark.slow
def test_faster_rcnn_of_any_batch(tmp_path: Path) -> None:
    example = Example((64, 96), 1, ("batch",))
    check_all(detector(), example, [(1, (64, 96)), (3, (64, 96))], tmp_path)


@pytest.mark.slow
def test_adaptive_sampling(tmp_path: Path) -> None:
    pool = PoolRule(samples=0, aligned=True)
    model = detector(box_head=partial(BoxHead, hidden=(16,), pool=pool))
    check_all(model, Example((64, 96), 2), [(2, (64, 96))], tmp_path)


EVERY_BOX = partial(SSD, detection=MultiBoxDetectionRule(max_detections=1000))


def shallow(kind: Any) -> Any:
    return partial(kind, depth=1, detection=DenseDetectionRule(1e-4, per_level=100))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*map(shallow, (RetinaNet, FCOS, ATSS, YOLOX)), EVERY_BOX])
def test_one_stage_heads(kind: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = partial(kind, num_classes=3)
    neck = partial(FPN, out_channels=8, extra="conv")
    model = DenseModel(ResNet(18, width=8), {"boxes": head}, neck)
    spread(model, 10)
    check_all(model, Example((64, 96), 2, ("batch",)), [(2, (64, 96)), (1, (64, 96))], tmp_path)


@pytest.mark.slow
def test_every_head_without_boxes_of_any_batch_and_size(tmp_path: Path) -> None:
    example = Example((64, 96), 1, ("batch", "size"))
    shapes = [(1, (64, 96)), (3, (52, 72)), (3, (96, 64)), (2, (100, 40)), (1, (192, 256))]
    check_all(dense_model(), example, shapes, tmp_path)


@pytest.mark.slow
def test_a_head_of_a_plug_in(tmp_path: Path) -> None:
    model, file = boxed_model("plugged_in"), tmp_path / "model.onnx"
    export_onnx(model, Example((64, 96), 1, ("batch",)), file)
    for batch in (1, 3):
        check(model, open_onnx(file), batch, (64, 96))


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(64,), (32, 32, 48)])
def test_series_and_volumes(sides: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    info = {"mean": [0.5], "std": [0.3], "full_scale": 1.0}
    backbone = ResNet(18, width=8, in_channels=1, spatial_dims=len(sides))
    model = DenseModel(backbone, {"masks": partial(UNet, num_classes=2)}, info=info)
    check_all(model, Example(sides, 1, ("batch",)), [(1, sides), (2, sides)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_texts_are_stored_in_the_file(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DenseModel(ResNet(18, width=8), {"kind": partial(Classification, num_classes=3)}).eval()
    made, example = format_of(name), Example((32, 32))
    file = tmp_path / f"model{made.suffix}"
    made.export(model, example, file, "fp32")
    texts = {"info.json": '{"names": ["<a>", "b & c", "\\n"]}', "config.yaml": "a: 1\nb: ä\n"}
    made.write_facts(file, {"info.json": "old"})
    made.write_facts(file, texts)
    assert made.read_facts(file).items() >= texts.items()
    check(model, made.open(file), 1, (32, 32))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no", b"<net><layers/></net>"])
def test_another_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    made = format_of(name)
    file = tmp_path / f"model{made.suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="expected a file exported by densekit"):
        made.read_facts(file)


@pytest.mark.slow
def test_boxes_stay_exact_in_bfloat16(tmp_path: Path) -> None:
    """What lies between the layers with weights and the pooled regions computes in float32."""
    model, example = detector().eval(), Example((64, 96))
    export_onnx(model, example, tmp_path / "model.onnx")
    convert_onnx(tmp_path / "model.onnx", tmp_path / "bf16.xml", "bf16")
    program = compiled(tmp_path / "bf16.xml")
    assert [REGIONS in output.get_names() for output in program.outputs] == [False] * 5 + [True]
    types: dict[str, set[str]] = {"Convolution": set(), "NonMaxSuppression": set()}
    waiting, seen = [program.get_runtime_model().outputs[-1].get_node()], set()
    while waiting:
        node = waiting.pop()
        if node.get_friendly_name() in seen:
            continue
        seen.add(node.get_friendly_name())
        kind, precision = (
            node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision")
        )
        types.setdefault(kind, set()).add(precision)
        if kind != "Convolution":
            waiting += [value.get_node() for value in node.input_values()]
    assert types.pop("Convolution") == {"bf16"}
    types.pop("Reorder")  # of the convolutions' outputs
    assert not [kind for kind, found in types.items() if "bf16" in found]
    assert types["NonMaxSuppression"] == {"f32"}
    inputs = [value.numpy() for value in example.noise(model)]
    assert REGIONS not in run_compiled(program)(*inputs)
