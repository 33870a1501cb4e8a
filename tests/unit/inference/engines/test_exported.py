"""The engines of ONNX Runtime and OpenVINO: exported once, loaded afterwards, equal to eager."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch

from densekit import DenseModel
from densekit.inference.engines import exported
from densekit.inference.engines.cache import Cache
from densekit.inference.engines.proof import EngineError
from densekit.types import Batch
from tests.unit.inference.segmenter import tiny_segmenter


def batch_of(images: int) -> Batch:
    torch.manual_seed(2)
    image = torch.randint(0, 256, (images, 3, 64, 64), dtype=torch.uint8)
    return {"image": image, "size": torch.tensor([[60, 64]] * images)}


def fail(*arguments: object) -> None:
    raise RuntimeError("no such layer\nat line 1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision", "tolerance"),
    [("onnxruntime", "fp32", 1e-4), ("openvino", "fp32", 1e-4), ("openvino", "bf16", 0.1)],
)
def test_a_kept_file_equals_the_model(
    name: str, precision: str, tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_segmenter(channels=3).eval()
    engine = importlib.import_module(f"densekit.inference.engines.{name}")
    cache = Cache(tmp_path / "a.engines", {}, b"secret")
    found = engine.build(model, precision, cache).predict(batch_of(2))
    monkeypatch.setattr(exported, "_write", fail)  # the second start exports nothing
    again = engine.build(model, precision, cache).predict(batch_of(2))
    with torch.inference_mode():
        expected = model.predict(batch_of(2))
    for head, of_head in expected.items():
        for key, value in of_head.items():
            torch.testing.assert_close(
                found[head][key], value, rtol=tolerance, atol=tolerance * float(value.abs().max())
            )
            assert torch.equal(again[head][key], found[head][key])


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_model_that_cannot_be_exported_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("densekit.inference.export.onnx.traced", fail)
    model: DenseModel = tiny_segmenter(channels=3).eval()
    engine = importlib.import_module(f"densekit.inference.engines.{name}").build(
        model, "fp32", None
    )
    with pytest.raises(EngineError, match=rf"engine={name}: .* RuntimeError: no such layer;"):
        engine.predict(batch_of(1))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_int8_without_its_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(package: str) -> object:
        return None if package == "nncf" else "there"

    monkeypatch.setattr("importlib.util.find_spec", find)
    engine = importlib.import_module(f"densekit.inference.engines.{name}")
    model = tiny_segmenter(channels=3).eval()
    with pytest.raises(ImportError, match=r"precision=int8 needs nncf: pip install 'densekit\[ex"):
        engine.build(model, "int8", None)
