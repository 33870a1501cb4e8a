"""Predictor: pictures of any kind and size in, results in each one's own frame out."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from densekit import DenseModel, Predictor
from densekit.inference.frames import Frames
from densekit.inference.inputs import channels_first
from densekit.inference.restore import restore
from densekit.ops.run_lengths import decode
from tests.unit.tiny import spread, tiny_detector, tiny_mask_detector

SIZES = [(60, 90), (75, 75), (41, 120), (60, 90)]


@pytest.fixture(scope="module")
def model() -> DenseModel:
    torch.manual_seed(1)
    made = tiny_detector({"resize": {"min_size": 64, "max_size": 128}})
    spread(made)
    return made


def arrays() -> list[NDArray[np.uint8]]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def assert_equal(a: list[dict[str, Any]], b: list[dict[str, Any]], atol: float = 0) -> None:
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        one, other = one["detection"], other["detection"]
        assert one["names"] == other["names"]
        for key in ("boxes", "scores", "labels"):
            np.testing.assert_allclose(one[key], other[key], rtol=0, atol=atol)


def test_results_are_in_each_image_s_frame(model: DenseModel) -> None:
    results = Predictor(model)(arrays())
    assert len(results) == len(SIZES)
    for (height, width), result in zip(SIZES, results, strict=True):
        found = result["detection"]
        count = len(found["scores"])
        assert count > 0
        assert found["boxes"].shape == (count, 4)
        assert (found["boxes"].dtype, found["labels"].dtype) == (np.float32, np.int64)
        assert (found["boxes"] >= 0).all()
        assert (found["boxes"] <= np.array([width, height, width, height]) + 1e-3).all()
        assert (np.diff(found["scores"]) <= 0).all()
        assert found["names"] == ["abc"[label] for label in found["labels"]]
    largest = max(result["detection"]["boxes"].max() for result in results)
    assert largest > 100  # wider than the image of 90: really scaled back


def test_paths_arrays_and_tensors_are_the_same_pictures(model: DenseModel, tmp_path: Path) -> None:
    images = arrays()
    paths = [tmp_path / f"{number}.png" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    tensors = [torch.from_numpy(image.copy()).permute(2, 0, 1) for image in images]
    predictor = Predictor(model)
    expected = predictor(images)
    assert_equal(predictor(paths), expected)
    assert_equal(predictor([str(path) for path in paths]), expected)
    assert_equal(predictor(tensors), expected)
    assert_equal(predictor([images[0], paths[1], tensors[2], images[3]]), expected)


def test_bytes_and_floats_of_the_same_scale_agree(model: DenseModel) -> None:
    images = arrays()
    floats = [image.astype(np.float32) for image in images]
    mixed = [images[0], *floats[1:]]
    expected = Predictor(model)(images)
    assert_equal(Predictor(model)(floats), expected)
    assert_equal(Predictor(model, batch_size=4)(mixed), expected, atol=1e-3)


def test_batches_of_one_size_change_nothing(model: DenseModel) -> None:
    images = [arrays()[0]] * 5
    one = Predictor(model, batch_size=1)(images)
    assert_equal(Predictor(model, batch_size=3)(images), one, atol=1e-4)


def test_streams_one_batch_at_a_time(model: DenseModel) -> None:
    taken = []

    def source() -> Any:
        for number, image in enumerate(arrays()):
            taken.append(number)
            yield image

    results = Predictor(model, batch_size=2).stream(source())
    next(results)
    assert taken == [0, 1]
    assert len(list(results)) == 3


def test_no_images(model: DenseModel) -> None:
    assert Predictor(model)([]) == []


def test_head_is_flat(model: DenseModel) -> None:
    predictor = Predictor(model)
    head = predictor.head("detection")
    assert head.names == ["a", "b", "c"]
    flat = [{"detection": result} for result in head(arrays())]
    assert_equal(flat, predictor(arrays()))


def test_masks_of_objects_are_run_lengths_or_planes_of_each_image() -> None:
    detector = tiny_mask_detector({"resize": {"min_size": 64, "max_size": 128}})
    spread(detector)
    runs, planes = (
        [result["detection"] for result in Predictor(detector, mask_planes=chosen)(arrays())]
        for chosen in (False, True)
    )
    for size, found, drawn in zip(SIZES, runs, planes, strict=True):
        count = len(found["scores"])
        assert count > 0
        assert len(found["masks"]) == count
        assert (drawn["masks"].dtype, drawn["masks"].shape) == (np.bool_, (count, *size))
        np.testing.assert_array_equal(decode(found["masks"], size), drawn["masks"])
    (none,) = Predictor(tiny_mask_detector(score_threshold=1.0), mask_planes=True)(arrays()[:1])
    assert none["detection"]["masks"].shape == (0, *SIZES[0])


@pytest.mark.parametrize("training", [True, False])
def test_predicts_in_eval_mode(model: DenseModel, training: bool) -> None:
    assert not Predictor(model.train(training)).model.training


def test_bf16_results_are_float32(model: DenseModel) -> None:
    result = Predictor(model, precision="bf16")(arrays()[:1])[0]["detection"]
    assert result["boxes"].dtype == result["scores"].dtype == np.float32


def test_another_inferer_takes_the_place(model: DenseModel) -> None:
    seen: list[Tensor] = []

    def inferer(given: DenseModel, batch: Any) -> list[dict[str, Any]]:
        seen.append(batch["size"])
        return [{"detection": {"labels": np.array([2])}} for _ in batch["size"]]

    results = Predictor(model, inferer=inferer, batch_size=2)(arrays()[:2])
    assert [result["detection"]["names"] for result in results] == [["c"], ["c"]]
    assert seen[0].tolist() == [[64, 96], [64, 64]]


def test_one_image_is_a_list_of_one_result(model: DenseModel, tmp_path: Path) -> None:
    image, file = arrays()[0], tmp_path / "a.png"
    Image.fromarray(image).save(file)
    tensor = torch.from_numpy(image).movedim(-1, 0)
    predictor = Predictor(model)
    expected = predictor([image])
    for one in (str(file), file, image, tensor, Image.fromarray(image), image[None], tensor[None]):
        assert_equal(predictor(one), expected)
    flat = [{"detection": result} for result in predictor.head("detection")(str(file))]
    assert_equal(flat, expected)
    assert_equal(list(predictor.stream(image)), expected)
    assert_equal(predictor(np.array([str(file), str(file)])), expected * 2)
    assert_equal(predictor(np.stack([image, image])), expected * 2)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "LA", "CMYK"])
def test_pictures_of_any_mode_are_read_as_their_files(
    model: DenseModel, mode: str, tmp_path: Path
) -> None:
    picture = Image.fromarray(arrays()[0]).convert(mode)
    file = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    picture.save(file)
    expected = Predictor(model)(file)
    assert_equal(Predictor(model)(picture), expected)
    array = np.asarray(picture)
    if mode in ("L", "RGBA"):
        assert_equal(Predictor(model)(array), expected)
        assert_equal(Predictor(model)(array.astype(np.float32)), expected)


def test_odd_kinds_of_the_same_numbers_are_one_picture(model: DenseModel) -> None:
    image = arrays()[0]
    grey = image[..., 0].copy()
    tensor = torch.from_numpy(image).movedim(-1, 0).float()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for given in (image.astype(np.longdouble), tensor.requires_grad_()):
            assert_equal(Predictor(model)(given), Predictor(model)(image))
        for given in (Image.fromarray(grey).convert("LA").convert("La"), np.ma.array(grey)):
            assert_equal(Predictor(model)(given), Predictor(model)(grey))


def test_a_turned_picture_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(arrays()[0]).save(buffer, "jpeg", exif=exif)
    frames = Frames(tiny_detector())
    assert frames.prepared(Image.open(buffer))[0].shape == (3, 90, 60)


def test_colour_becomes_grey_as_pillow_makes_it() -> None:
    image = arrays()[0]
    expected = np.asarray(Image.fromarray(image).convert("L"))
    floats = image.astype(np.float64)
    for given in (image, Image.fromarray(image), torch.from_numpy(image).movedim(-1, 0), floats):
        (grey,) = channels_first(given, 2, 1, deep=False, full_scale=255, where="image")
        np.testing.assert_allclose(grey, expected, atol=0.51 if given is floats else 0)


FLOATS = np.linspace(0, 1, 8 * 9 * 3, dtype=np.float32).reshape(8, 9, 3)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((3, 8, 9), np.uint8), ValueError, r"expected \(3, H, W\).*got shape \(9, 3, 8\)"),
        (torch.zeros(8, 9, 3), ValueError, r"got shape \(8, 9, 3\)"),
        (np.zeros((8, 9, 2), np.uint8), ValueError, r"got shape \(2, 8, 9\)"),
        (np.zeros(8, np.uint8), ValueError, r"got shape"),
        (np.zeros((0, 9, 3), np.uint8), ValueError, r"expected at least one pixel"),
        (np.zeros((8, 9, 3), np.int32), TypeError, "expected uint8 or floats, got torch.int32"),
        (np.zeros((8, 9, 3), np.uint16), TypeError, "expected uint8 or floats, got torch.uint16"),
        (np.zeros((8, 9, 3), np.complex64), TypeError, "got torch.complex64"),
        (np.ones((8, 9, 3), bool), TypeError, "got torch.bool"),
        (Image.new("I;16", (9, 8)), TypeError, "got torch.uint16"),
        (FLOATS, ValueError, r"expected floats in 0\.\.255, .*got 0\.\.1; pass uint8"),
        (torch.from_numpy(FLOATS).movedim(-1, 0).double(), ValueError, r"got 0\.\.1;"),
        (FLOATS * 4.7 - 2.1, ValueError, r"got -2\.1\.\.2\.6"),
        (FLOATS * 65535, ValueError, r"got 0\.\.6\.55e\+04"),
        (FLOATS * np.nan, ValueError, "expected finite values, got NaN"),
        (np.full((8, 9, 3), np.inf), ValueError, "expected finite values"),
        ({"image": FLOATS}, TypeError, "images.*expected a path.*got dict"),
        (None, TypeError, "expected a path.*got NoneType"),
        (7, TypeError, "expected a path.*got int"),
        (b"GIF89a", TypeError, "expected a path.*got bytes"),
        (torch.zeros(3, 8, 9).to_sparse(), TypeError, "expected a dense tensor.*got a .*sparse"),
        (torch.zeros(3, 8, 9, device="meta"), TypeError, "expected a dense tensor.*got a meta one"),
    ],
)
@pytest.mark.parametrize("many", [False, True])
def test_refuses_images(
    model: DenseModel, image: Any, error: type[Exception], message: str, many: bool
) -> None:
    with pytest.raises(error, match=message):
        Predictor(model)([image] if many else image)


def test_names_the_image_of_many(model: DenseModel) -> None:
    with pytest.raises(ValueError, match=r"images\[2\]: expected finite values"):
        Predictor(model)([*arrays()[:2], np.full((8, 9, 3), np.nan)])
    with pytest.raises(ValueError, match="images: expected at most 4 axes"):
        Predictor(model)(np.zeros((1, 1, 8, 9, 3), np.uint8))


def test_black_floats_and_those_of_another_scale_are_right(model: DenseModel) -> None:
    Predictor(model)([np.zeros((40, 40, 3), np.float32), FLOATS * 255])
    of_one = tiny_detector({"full_scale": 1.0})
    Predictor(of_one)(FLOATS)
    with pytest.raises(ValueError, match=r"expected floats in 0\.\.1, .*got 0\.\.255"):
        Predictor(of_one)(FLOATS * 255)


def test_refuses_settings(model: DenseModel) -> None:
    with pytest.raises(ValueError, match="precision: expected fp32 or bf16 or fp16 .*, got 'fp8'"):
        Predictor(model, precision="fp8")
    with pytest.raises(ValueError, match=r"head: expected one of \['detection'\], got 'boxes'"):
        Predictor(model).head("boxes")


def test_names_an_image_that_is_missing(model: DenseModel) -> None:
    with pytest.raises(ValueError, match="nowhere.png"):
        Predictor(model)(["nowhere.png"])


def test_restores_each_axis_by_its_own_ratio() -> None:
    predictions = {
        "detection": {
            "boxes": torch.tensor([[[10.0, 10, 20, 20], [0, 0, 1, 1]]]),
            "scores": torch.tensor([[0.9, 0.0]]),
            "labels": torch.tensor([[1, 0]]),
            "valid": torch.tensor([[True, False]]),
        },
        "grade": {"scores": torch.tensor([[0.5, 0.25]], dtype=torch.bfloat16)},
    }
    batch: Any = {"size": torch.tensor([[50, 60]]), "meta": [{"original_size": (100, 30)}]}
    (result,) = restore(predictions, batch)
    assert result["detection"]["boxes"].tolist() == [[5, 20, 10, 40]]
    assert result["detection"]["labels"].tolist() == [1]
    assert result["grade"]["scores"].tolist() == [0.5, 0.25]


def test_precision_that_computes_wrongly_is_said_once(
    model: DenseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def answer(calls: object, *_: object, backward: bool) -> str:
        asked.append(calls)
        assert not backward
        return "conv2d: the relative error of its output is 9"

    monkeypatch.setattr("densekit.inference.engines.eager.first_wrong", answer)
    predictor = Predictor(model, precision="bf16")
    with pytest.warns(UserWarning, match="precision=bf16 computes .*conv2d: the relative error"):
        predictor(arrays()[:1])
    predictor(arrays()[:1])
    Predictor(model)(arrays()[:1])
    assert len(asked) == 1
    assert asked[0]
