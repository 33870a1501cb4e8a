"""A file that takes pictures of any size resizes, predicts and restores as a predictor does."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from densekit.backbones import ResNet
from densekit.heads import FCN, Classification, UNet
from densekit.inference import Predictor, SlidingWindow, WholeImage
from densekit.inference.engine import with_engine
from densekit.inference.export.base import Example, PredictionsByName, as_program
from densekit.inference.export.formats import format_of
from densekit.inference.export.gate import Pair, on_noise
from densekit.inference.export.openvino import FRAME, compiled, convert_onnx, run_compiled
from densekit.inference.export.pictures import OnPictures, check_pictures
from densekit.inference.export.running import FileEngine, PictureFile
from densekit.model import DenseModel
from densekit.ops.resize import ResizeRule, resize_batch, resized_size
from tests.unit.inference.export.models import boxed_model

FRAME_SIDES = (64, 96)
RULES: list[dict[str, Any]] = [
    {"min_size": 48, "max_size": 90},
    {"min_size": 49, "max_size": 96, "rounded": True},
    {"min_size": 40, "max_size": 80, "antialias": True},
    {"min_size": 72, "crop": 64},
    {"min_size": 50, "crop": 60, "antialias": True},
]
SIZES = [(37, 53), (48, 64), (120, 160), (75, 61), (30, 30), (300, 451), (1, 1)]


def picture_of(height: int, width: int) -> NDArray[np.uint8]:
    """Blocks of noise, so that what is resized keeps contrast."""
    noise = np.random.default_rng(height).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8
    )
    return np.ascontiguousarray(noise.repeat(8, 0).repeat(8, 1)[:height, :width])


def module_of(rule: dict[str, Any] | None, program: nn.Module | None = None) -> OnPictures:
    info = {"resize": rule, "full_scale": 255.0}
    return OnPictures(program or nn.Identity(), info, FRAME_SIDES)


@pytest.mark.parametrize(
    "rule",
    [
        ResizeRule(min_size=800, max_size=1333),
        ResizeRule(min_size=256),
        ResizeRule(min_size=7, max_size=9, rounded=True),
    ],
)
def test_sides_are_rounded_as_in_float64(rule: ResizeRule) -> None:
    """By numbers of 32 bits: 49 * (800 / 49) is 799.9999999999999 in float64."""
    module = module_of(dict(rule))
    sizes = [(s * a // b, s) for s in range(3, 600, 7) for a, b in ((1, 1), (3, 2), (4, 3))]
    sizes += [(49, 49), (98, 49), (3747, 12), (4000, 3000), (1, 4000)]
    lost = 0
    for height, width in sizes:
        expected = resized_size(height, width, rule)
        assert tuple(module._by_rule(rule, torch.tensor([height, width])).tolist()) == expected
        lost += min(expected) == rule["min_size"] - 1
    assert lost or rule["min_size"] != 800


@pytest.mark.parametrize("rule", [*RULES, None])
def test_pictures_are_prepared_as_by_the_model(rule: dict[str, Any] | None) -> None:
    module = module_of(rule)
    for height, width in SIZES:
        picture = picture_of(height, width)
        if rule is None and (height > 64 or width > 96):
            continue
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        batch: Any = {"image": image, "size": torch.tensor([[height, width]])}
        expected = batch if rule is None else resize_batch(batch, ResizeRule(**rule))
        here = torch.tensor([height, width])
        frame, size, _ = module._prepared(torch.from_numpy(picture), here)
        assert size.tolist() == expected["size"][0].tolist()
        h, w = size.tolist()
        torch.testing.assert_close(frame[..., :h, :w], expected["image"], rtol=0, atol=1e-2)


def test_what_does_not_fit_is_reduced_further() -> None:
    module = module_of({"min_size": 64, "max_size": 200})
    for height, width, expected in ((64, 128, [48, 96]), (300, 100, [64, 21]), (64, 96, [64, 96])):
        assert module._resized(torch.tensor([height, width])).tolist() == expected


@pytest.fixture(scope="module")
def dense() -> DenseModel:
    """Masks of exclusive, independent and two classes, and one answer for the whole picture."""
    torch.manual_seed(0)
    near = partial(FCN, level="c2", aux_level=None)
    heads = {
        "classes": partial(near, num_classes=3),
        "independent": partial(UNet, num_classes=2, multilabel=True, decoder_channels=(8,) * 5),
        "binary": partial(near, num_classes=1),
        "kind": partial(Classification, num_classes=3),
    }
    info = {"resize": {"min_size": 48, "max_size": 90}, "full_scale": 1.0}
    return DenseModel(ResNet(18, width=8), heads, info=info).eval()


def predictor_in_frame(model: DenseModel) -> Predictor:
    """Pads to the frame of the file, like the gate."""
    predictor, program = Predictor(model), as_program(PredictionsByName(model))
    engine = FileEngine(model, program, Example(FRAME_SIDES), "eager", "fp32")
    predictor.model = with_engine(model, engine)
    return predictor


def check(model: DenseModel, program: Any) -> None:
    """Compares with a predictor on pictures of sizes that no file was traced with."""
    predictor, file = predictor_in_frame(model), PictureFile(program)
    for height, width in SIZES[1:4]:
        picture = picture_of(height, width)
        (expected,), found = predictor(picture), file(picture)
        for head, result in expected.items():
            assert found[head].keys() == result.keys() - {"names"} or head == "kind"
            if "mask" in result:
                assert found[head]["mask"].dtype == np.uint8
                assert found[head]["mask"].shape == result["mask"].shape
                assert (found[head]["mask"] != result["mask"]).mean() < 1e-3
            elif "boxes" in result:
                assert len(result["boxes"])
                np.testing.assert_allclose(found[head]["boxes"], result["boxes"], atol=2e-3)
                np.testing.assert_array_equal(found[head]["labels"], result["labels"])
            else:
                there = found[head]["probabilities"]
                np.testing.assert_allclose(there, result["probabilities"], atol=1e-5)


def on_pictures(model: DenseModel) -> OnPictures:
    return OnPictures(PredictionsByName(model), model.info, FRAME_SIDES)


def test_masks_and_probabilities_are_those_of_a_predictor(dense: DenseModel) -> None:
    check(dense, as_program(on_pictures(dense)))


def test_masks_are_decided_by_the_thresholds() -> None:
    torch.manual_seed(0)
    made = {
        "one": partial(FCN, num_classes=1, level="c2", aux_level=None),
        "many": partial(UNet, num_classes=2, multilabel=True, decoder_channels=(8,) * 5),
    }
    model = DenseModel(ResNet(18, width=8), made, info={"resize": {"min_size": 48}}).eval()
    model.decided = {"one": (0.55,), "many": (0.4, 0.6)}
    program = OnPictures(PredictionsByName(model), model.info, FRAME_SIDES, model.thresholds)
    picture = picture_of(48, 64)
    found = PictureFile(as_program(program))(picture)
    (expected,) = predictor_in_frame(model)(picture)
    undecided = OnPictures(PredictionsByName(model), model.info, FRAME_SIDES)
    plain = PictureFile(as_program(undecided))(picture)
    for head, result in expected.items():
        assert (found[head]["mask"] != result["mask"]).mean() < 1e-3
        assert (plain[head]["mask"] != result["mask"]).mean() > 0.02


def test_boxes_are_those_of_a_predictor() -> None:
    model = boxed_model("one_stage")
    model.info["resize"] = {"min_size": 48, "max_size": 90}
    check(model, as_program(on_pictures(model)))


@pytest.mark.slow
def test_files_of_every_format(dense: DenseModel, tmp_path: Path) -> None:
    """One ONNX file is also OpenVINO's, in float32 and in bfloat16."""
    example = Example(FRAME_SIDES, resize=True)
    for name in ("torch_export", "onnx"):
        made = format_of(name)
        file = tmp_path / f"model{made.suffix}"
        made.export(dense, example, file, "fp32")
        check(dense, made.open(file))
    convert_onnx(file, tmp_path / "fp32.xml")
    check(dense, format_of("openvino").open(tmp_path / "fp32.xml"))
    convert_onnx(file, tmp_path / "bf16.xml", "bf16")
    loaded = compiled(tmp_path / "bf16.xml")
    program = run_compiled(loaded)
    assert FRAME not in program(picture_of(48, 64))
    whole = loaded({"picture": picture_of(120, 160)})[FRAME]
    frame, size, _ = on_pictures(dense)._prepared(
        torch.from_numpy(picture_of(120, 160)), torch.tensor([120, 160])
    )
    normalised = dense.normalise(frame, size[None])
    torch.testing.assert_close(torch.from_numpy(whole), normalised, rtol=0, atol=1e-4)
    assert not on_noise(Pair.of(dense, program, example, "openvino", "bf16"), example).unproven


def test_other_models_are_refused(dense: DenseModel) -> None:
    check_pictures(dense, FRAME_SIDES, WholeImage())
    with pytest.raises(ValueError, match="resize: expected .* with SlidingWindow; resize=false"):
        check_pictures(dense, FRAME_SIDES, SlidingWindow((32, 32)))
    deep = partial(Classification, num_classes=3)
    for info in ({"dtype": "float32"}, {"resize": {"min_size": 80, "crop": 70}}):
        model = DenseModel(ResNet(18, width=8), {"kind": deep}, info=info)
        with pytest.raises(ValueError, match=r"^(resize: expected a model of pictures|size: )"):
            check_pictures(model, FRAME_SIDES, WholeImage())
