"""The scripts that run exported files without densekit prepare and draw a photograph rightly."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from densekit.inference.export.pictures import OnPictures
from densekit.inference.restore import restore_mask
from densekit.ops.resize import resize_batch

FOLDER = Path(__file__).resolve().parents[3] / "docs" / "examples" / "exported"
INFO: dict[str, Any] = {"mean": [0.0] * 3, "full_scale": 255.0, "heads": {"head": {"names": ["x"]}}}
FREE = {"sides": [64, 64], "batch": 1, "dynamic": ["size"]}


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def prepared(pixels: NDArray[np.uint8], info: dict[str, Any], shapes: dict[str, Any]) -> Any:
    return importlib.import_module("prepared").prepared(pixels, info, shapes)


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (50, 71, 3), np.uint8)


@pytest.fixture
def photo(pixels: NDArray[np.uint8], tmp_path: Path) -> Path:
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def batch_of(pixels: NDArray[np.uint8]) -> Any:
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return {"image": image, "size": torch.tensor([[50, 71]])}


@pytest.mark.parametrize(
    "rule",
    [
        None,
        {"min_size": 37},
        {"min_size": 90, "max_size": 100, "rounded": True},
        {"min_size": 64, "crop": 48},
    ],
)
def test_it_resizes_like_the_model(pixels: NDArray[np.uint8], rule: Any) -> None:
    image, size = prepared(pixels, {**INFO, "resize": rule}, FREE)
    batch = batch_of(pixels)
    expected = batch if rule is None else resize_batch(batch, rule)
    assert size.tolist() == expected["size"].tolist()
    np.testing.assert_allclose(image, expected["image"].float().numpy(), atol=0.05)


def test_smoothed_resizing_is_that_of_the_model_but_for_rounding(
    pixels: NDArray[np.uint8],
) -> None:
    rule: Any = {"min_size": 20, "antialias": True}
    image, _ = prepared(pixels, {**INFO, "resize": rule}, FREE)
    expected = resize_batch(batch_of(pixels), rule)["image"]
    np.testing.assert_allclose(image, expected.numpy(), atol=1.01)


def test_what_does_not_fit_is_reduced(pixels: NDArray[np.uint8]) -> None:
    """By the same whole numbers as inside a file that resizes."""
    shapes = {"sides": [32, 64], "batch": 2, "dynamic": []}
    image, size = prepared(pixels, INFO, shapes)
    info = {"resize": None, "full_scale": 255.0}
    inside = OnPictures(torch.nn.Identity(), info, (32, 64))._resized(torch.tensor([50, 71]))
    assert inside.tolist() == size[0].tolist()
    assert image.shape == (2, 3, 32, 64)
    assert size.tolist() == [[32, 45]] * 2
    assert not image[:, :, :, 45:].any()
    assert size.dtype == np.int64
    assert image.dtype == np.float32


def test_results_return_to_the_picture(pixels: NDArray[np.uint8]) -> None:
    """Masks as `densekit.inference.restore` makes them, boxes by the ratio of the sides."""
    logits = np.random.default_rng(1).normal(size=(1, 3, 32, 64)).astype(np.float32)
    outputs = {
        "head/boxes": np.array([[[8, 8, 45, 32]]], np.float32),
        "head/scores": np.array([[0.9]], np.float32),
        "mask/logits": logits,
        "sorts/multilabel_logits": logits,
        "one/logits": logits[:, :1],
    }
    size = np.array([[32, 45]])
    restored = importlib.import_module("prepared").restored(outputs, size, pixels, INFO)
    np.testing.assert_allclose(restored["head/boxes"], [[8 * 71 / 45, 12.5, 71, 50]], rtol=1e-6)
    assert restored["head/scores"].shape == (1,)
    inside = torch.from_numpy(logits[0, :, :, :45])
    for name, of, several in (
        ("mask", inside, False),
        ("sorts", inside, True),
        ("one", inside[:1], False),
    ):
        expected = restore_mask(of, (50, 71), several)
        assert restored[f"{name}/mask"].dtype == np.uint8
        np.testing.assert_array_equal(restored[f"{name}/mask"], expected)


def test_thresholds_of_the_file_decide(pixels: NDArray[np.uint8], photo: Path) -> None:
    info = {**INFO, "heads": {"one": {"threshold": [0.8]}, "sorts": {"threshold": [0.1, 0.9]}}}
    logits = np.random.default_rng(1).normal(size=(1, 2, 32, 64)).astype(np.float32)
    outputs = {"one/logits": logits[:, :1], "sorts/multilabel_logits": logits}
    size = np.array([[32, 45]])
    restored = importlib.import_module("prepared").restored(outputs, size, pixels, info)
    inside = torch.from_numpy(logits[0, :, :, :45])
    expected = restore_mask(inside[:1], (50, 71), threshold=0.8)
    np.testing.assert_array_equal(restored["one/mask"], expected)
    expected = restore_mask(inside, (50, 71), True, threshold=[0.1, 0.9])
    np.testing.assert_array_equal(restored["sorts/mask"], expected)
    outputs = {"sorts/multilabel_probabilities": np.array([0.2, 0.8], np.float32)}
    draw = importlib.import_module("picture").draw
    assert draw(photo, outputs, info, photo.with_name("a.png")) == ["sorts: 0"]


def test_it_draws(photo: Path, tmp_path: Path) -> None:
    outputs = {
        "head/boxes": np.array([[5, 5, 30, 20], [0, 0, 9, 9]], np.float32),
        "head/scores": np.array([0.9, 0.2], np.float32),
        "head/labels": np.zeros(2, np.int64),
        "head/valid": np.ones(2, bool),
        "mask/mask": np.zeros((50, 71), np.uint8),
        "kind/probabilities": np.array([0.25, 0.75], np.float32),
    }
    result = tmp_path / "drawn.png"
    lines = importlib.import_module("picture").draw(photo, outputs, INFO, result)
    assert lines[0] == "x 0.90 [5.0, 5.0, 30.0, 20.0]"
    assert lines[1:] == ["mask: a mask of classes [0]", "kind: 1 0.75"]
    assert Image.open(result).size == (71, 50)


def test_a_program_runs_on_a_photograph(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Height(torch.nn.Module):
        def forward(self, picture: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"head/probabilities": (picture[:, :1, 0] >= 0).sum(0) / 100}

    shapes = ({0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},)
    inputs = (torch.zeros(64, 64, 3, dtype=torch.uint8),)
    program = torch.export.export(Height(), inputs, dynamic_shapes=shapes)
    texts = {"info.json": json.dumps(INFO)}
    torch.export.save(program, tmp_path / "model.pt2", extra_files=texts)
    script = importlib.import_module("torch_file")
    script.main(str(tmp_path / "model.pt2"), str(photo), str(tmp_path / "drawn.png"))
    assert capsys.readouterr().out == "head: x 0.50\n"
