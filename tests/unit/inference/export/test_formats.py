"""Every format runs as its model does, in several precisions and shapes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch._export.verifier import SpecViolationError

from densekit.backbones import ResNet
from densekit.heads import FCN, Classification
from densekit.inference.export.archive import read_texts, write_texts
from densekit.inference.export.base import Example, as_program
from densekit.inference.export.formats import format_of
from densekit.inference.export.gate import Pair, Parity, on_noise
from densekit.model import DenseModel
from densekit.necks import FPN
from tests.unit.inference.export.models import (
    BOXED,
    DENSE,
    boxed_model,
    dense_model,
    make_confident,
)

MASKS = partial(FCN, num_classes=2, level="c2", aux_level=None)


def model_of(**heads: partial[object]) -> DenseModel:
    torch.manual_seed(0)
    neck = partial(FPN, out_channels=16, extra="conv_backbone")
    return DenseModel(ResNet(18, width=8), heads, neck).eval()  # type: ignore[arg-type]


def exported(
    name: str, model: DenseModel, example: Example, folder: Path, precision: str = "fp32"
) -> Pair:
    made = format_of(name)
    file = folder / f"model{made.suffix}"
    made.export(model, example, file, precision)
    write_texts(file, {"info.json": "{}"})
    assert read_texts(file)["info.json"] == "{}"
    return Pair.of(model, made.open(file), example, name, precision)


def check(parity: Parity) -> None:
    assert parity.measured
    assert not parity.beyond, parity.lines()
    assert not parity.unproven


def test_programs_are_given_contiguous_tensors() -> None:
    """Compiled kernels read raw memory; a picture of height, width, channels was transposed."""

    def run(image: torch.Tensor, size: torch.Tensor) -> dict[str, torch.Tensor]:
        assert image.is_contiguous()
        return {"image": image, "size": size}

    image = np.arange(2 * 4 * 5 * 3, dtype=np.float32).reshape(2, 4, 5, 3).transpose(0, 3, 1, 2)
    found = as_program(run)(image, np.ones((2, 2), np.int64))
    np.testing.assert_array_equal(found["image"], image)


@pytest.mark.slow
def test_a_program_of_dynamic_shapes(tmp_path: Path) -> None:
    """One file takes one image or three, of sides that no stride divides."""
    model = dense_model()
    pair = exported("torch_export", model, Example((64, 96), 1, ("batch", "size")), tmp_path)
    for batch, sides in ((1, (64, 96)), (3, (53, 71)), (2, (100, 40))):
        check(on_noise(pair, Example(sides, batch)))


def test_a_program_in_bfloat16(tmp_path: Path) -> None:
    model = model_of(masks=MASKS, kind=partial(Classification, num_classes=3))
    example = Example((64, 64), 2)
    pair = exported("torch_export", model, example, tmp_path, "bf16")
    check(on_noise(pair, example))
    image, size = example.noise(model)
    with torch.no_grad():
        own, other = (
            one.predict({"image": image, "size": size}) for one in (pair.model, pair.file)
        )
    assert not torch.equal(own["masks"]["logits"], other["masks"]["logits"])  # it is not float32


@pytest.mark.slow
def test_boxes_of_any_batch(tmp_path: Path) -> None:
    model = boxed_model()
    pair = exported("torch_export", model, Example((64, 96), 1, ("batch",)), tmp_path)
    for batch in (1, 3):
        check(on_noise(pair, Example((64, 96), batch)))


@pytest.mark.slow
def test_boxes_in_bfloat16(tmp_path: Path) -> None:
    """Stored and loaded again; how far rounding may move a box is the gate's question."""
    model, example = boxed_model("one_stage"), Example((64, 96))
    pair = exported("torch_export", model, example, tmp_path, "bf16")
    image, size = example.noise(model)
    with torch.no_grad():
        own, other = (
            one.predict({"image": image, "size": size})["one_stage"]["scores"]
            for one in (pair.model, pair.file)
        )
    assert ((own - other).abs() < 0.02).float().mean() > 0.95  # rounding decides near ties
    assert not torch.equal(own, other)


@pytest.mark.slow
def test_executorch_of_heads_without_suppression(tmp_path: Path) -> None:
    heads = {name: {**DENSE, **BOXED}[name] for name in ("unet", "kind", "twins", "plugged_in")}
    model = DenseModel(ResNet(18, width=8), heads, partial(FPN, out_channels=8)).eval()
    make_confident(model)
    check(on_noise(exported("executorch", model, Example((64, 64)), tmp_path), Example((64, 64))))


@pytest.mark.slow
def test_what_executorch_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it says of the suppression of boxes."""

    def lower(*_: object, **__: object) -> None:
        raise SpecViolationError("Operator torch._ops.aten.sort.stable is not in Core ATen opset")

    monkeypatch.setattr("executorch.exir.to_edge_transform_and_lower", lower)
    message = r"format: expected torch_export.* heads masks, got executorch, .* aten\.sort\.stable;"
    with pytest.raises(ValueError, match=message):
        exported("executorch", model_of(masks=MASKS), Example((64, 64)), tmp_path)


@pytest.mark.slow
def test_one_damaged_weight_of_an_onnx_file_is_seen(tmp_path: Path) -> None:
    model, example = model_of(masks=MASKS), Example((64, 64))
    made, file = format_of("onnx"), tmp_path / "model.onnx"
    made.export(model, example, file, "fp32")
    check(on_noise(Pair.of(model, made.open(file), example, "onnx", "fp32"), example))
    stored = onnx.load(file)
    last = model.heads["masks"].state_dict()
    shape = list(next(value for value in reversed(last.values()) if value.ndim == 4).shape)
    weight = next(one for one in stored.graph.initializer if list(one.dims) == shape)
    values = onnx.numpy_helper.to_array(weight).copy()
    values.flat[0] += 1
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    onnx.save(stored, file)
    assert on_noise(Pair.of(model, made.open(file), example, "onnx", "fp32"), example).beyond


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_program_on_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = torch.export.export(torch.nn.Linear(8, 8), (torch.zeros(1, 8),))
    monkeypatch.setattr("densekit.inference.export.program.traced", lambda *_: made)
    monkeypatch.setattr("densekit.inference.export.program.folded", lambda model: model)
    model = model_of(segmentation=partial(FCN, num_classes=2))
    with pytest.raises(OSError, match="No space left on device"):
        format_of("torch_export").export(model, Example((32, 32)), Path("/dev/full"), "fp32")
