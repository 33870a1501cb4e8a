"""`densekit predict` with masks: PNG and tiled TIFF, in the source's own frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from densekit import Predictor, _malloc
from densekit._malloc import KEEPING, RETURNING
from densekit.app.prediction import huge
from densekit.app.results.masks import MaskClasses, MaskWriter
from densekit.inference import CleanUp, SlidingWindow, TestTimeAugmentation, WholeImage
from densekit.visualization.colours import class_colour
from tests.unit.app.predicting import checkpoint_of, predict
from tests.unit.inference.segmenter import pixels, tiny_segmenter

AFFINE = np.array([[-1.5, 0.1, 0, 20], [0, 2, 0.2, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])


def palette_of(file: Path) -> tuple[NDArray[Any], list[tuple[int, ...]]]:
    """Indices and the colours they stand for."""
    with Image.open(file) as image:
        assert image.mode == "P"
        colours = np.array(image.getpalette()).reshape(-1, 3)
        return np.array(image), [tuple(row) for row in colours.tolist()]


def test_masks_of_pictures_hold_the_data_set_s_values(tmp_path: Path) -> None:
    model = tiny_segmenter()
    model.info["heads"]["segmentation"]["ids"] = [0, 100, 200]
    image = pixels(1, 40, 50)[0].numpy()
    (tmp_path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(image).save(tmp_path / "in" / "sub" / "a.png")
    assert predict(checkpoint_of(model, tmp_path / "m.ckpt"), tmp_path / "in", tmp_path / "o") == 0
    values, colours = palette_of(tmp_path / "o" / "masks" / "sub" / "a.png")
    expected = Predictor(model)([image])[0]["segmentation"]["mask"]
    np.testing.assert_array_equal(values, expected * 100)
    assert set(np.unique(expected)) >= {1, 2}
    assert [colours[v] for v in (0, 100, 200)] == [(0, 0, 0), class_colour(1), class_colour(2)]
    classes = json.loads((tmp_path / "o" / "classes.json").read_text())["segmentation"]
    assert [(entry["value"], entry["name"]) for entry in classes] == [
        (100, "organ"),
        (200, "tumour"),
    ]
    (entry,) = json.loads((tmp_path / "o" / "images.json").read_text())
    assert (entry["height"], entry["width"]) == (40, 50)
    assert (tmp_path / "o" / "overlays" / "sub" / "a.jpg").is_file()
    assert not list((tmp_path / "o").glob("results*.json"))


def test_freed_memory_is_kept_while_pictures_are_predicted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: list[Any] = []
    monkeypatch.setattr(_malloc, "_set", settings.append)
    Image.fromarray(pixels(1, 32, 32)[0].numpy()).save(tmp_path / "a.png")
    checkpoint = checkpoint_of(tiny_segmenter(), tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "a.png", tmp_path / "o") == 0
    assert settings == [KEEPING, RETURNING]


@pytest.mark.parametrize("stored", [None, [0, 255], [255, 0], [7, 3]])
def test_overlapping_classes_are_a_file_each(tmp_path: Path, stored: list[int] | None) -> None:
    model, image = tiny_segmenter(multilabel=True), pixels(1, 30, 40)[0].numpy()
    head = model.info["heads"]["segmentation"]
    head["names"] = ["background", "organ", "left/right"]
    head |= {"plane_values": stored} if stored else {}
    no, yes = stored or [0, 1]
    Image.fromarray(image).save(tmp_path / "a.png")
    assert predict(checkpoint_of(model, tmp_path / "m"), tmp_path / "a.png", tmp_path / "o") == 0
    expected = Predictor(model)([image])[0]["segmentation"]["mask"]
    for channel, name in enumerate(["background", "organ", "left_right"]):
        values, colours = palette_of(tmp_path / "o" / "masks" / f"a_{name}.png")
        np.testing.assert_array_equal(values, np.where(expected[channel], yes, no))
        assert colours[yes] == class_colour(channel)
    classes = json.loads((tmp_path / "o" / "classes.json").read_text())["segmentation"]
    assert [entry["value"] for entry in classes] == [yes] * 3


def test_masks_of_series_are_tables(tmp_path: Path) -> None:
    model, series = tiny_segmenter(dims=1), pixels(1, 100)[0].numpy()
    model.info["heads"]["segmentation"]["ids"] = [0, 100, 700]
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", series)
    np.savetxt(tmp_path / "in" / "b.csv", series[:37], delimiter=",")
    assert predict(checkpoint_of(model, tmp_path / "m.ckpt"), tmp_path / "in", tmp_path / "o") == 0
    for name, part in (("a", series), ("b", series[:37])):
        values = np.loadtxt(tmp_path / "o" / "masks" / f"{name}.csv", skiprows=1)
        expected = Predictor(model)([part.astype(np.float32)])[0]["segmentation"]["mask"]
        np.testing.assert_array_equal(values, np.array([0, 100, 700])[expected])
        with Image.open(tmp_path / "o" / "overlays" / f"{name}.jpg") as overlay:
            assert overlay.width == 480
    classes = json.loads((tmp_path / "o" / "classes.json").read_text())["segmentation"]
    assert [entry["value"] for entry in classes] == [100, 700]


def test_overlapping_classes_of_series_are_columns(tmp_path: Path) -> None:
    model, series = tiny_segmenter(dims=1, multilabel=True), pixels(1, 40)[0].numpy()
    np.save(tmp_path / "a.npy", series)
    assert predict(checkpoint_of(model, tmp_path / "m"), tmp_path / "a.npy", tmp_path / "o") == 0
    names, *rows = (tmp_path / "o" / "masks" / "a.csv").read_text().splitlines()
    assert names == "background,organ,tumour"
    expected = Predictor(model)([series.astype(np.float32)])[0]["segmentation"]["mask"]
    assert [[int(cell) for cell in row.split(",")] for row in rows] == expected.T.tolist()


@pytest.mark.parametrize(
    ("head", "largest", "table"),
    [
        ({"ids": [0, 7], "num_classes": 2}, 255, [0, 7]),
        ({"ids": [0, 700], "num_classes": 2}, 255, [0, 1]),  # no byte
        ({"ids": [0, 700], "num_classes": 2}, 65535, [0, 700]),
        ({"ids": [255], "names": ["cell"], "num_classes": 1}, 255, [0, 255]),
        ({"ids": [0, [1, 2]], "num_classes": 2}, 255, [0, 1]),
        ({"ids": [3, 3], "num_classes": 2}, 255, [0, 1]),  # would not come back
        ({"num_classes": 2}, 255, [0, 1]),
    ],
)
def test_stored_values(head: dict[str, Any], largest: int, table: list[int]) -> None:
    assert MaskClasses({"names": ["a", "b"], **head}).table(largest) == table


def test_binary_masks_in_the_stored_value(tmp_path: Path) -> None:
    classes = MaskClasses({"names": ["cell"], "ids": [255], "num_classes": 1})
    MaskWriter().write(np.array([[0, 1]], np.uint8), classes, tmp_path / "new" / "a.b")
    values, colours = palette_of(tmp_path / "new" / "a.b.png")
    assert values.tolist() == [[0, 255]]
    assert colours[255] == class_colour(1)


def test_predicts_as_the_checkpoint_was_validated(tmp_path: Path) -> None:
    model, image = tiny_segmenter(), pixels(1, 60, 70)[0].numpy()
    window = {"_target_": "densekit.inference.SlidingWindow", "window": [16, 16]}
    augmented = {"_target_": "densekit.inference.TestTimeAugmentation", "inferer": window}
    node = {"_target_": "densekit.inference.CleanUp", "inferer": augmented, "min_size": 20}
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt", node)
    predictor = Predictor(checkpoint, trust=["tests"])
    assert isinstance(predictor.inferer, CleanUp)
    assert isinstance(predictor.inferer.inferer, TestTimeAugmentation)
    found = predictor([image])[0]["segmentation"]["mask"]
    inferer = CleanUp(TestTimeAugmentation(SlidingWindow([16, 16])), min_size=20)
    expected = Predictor(model, inferer=inferer)([image])[0]["segmentation"]["mask"]
    np.testing.assert_array_equal(found, expected)
    plain = Predictor(checkpoint, trust=["tests"], inferer=SlidingWindow([16, 16]))
    assert isinstance(plain.inferer, SlidingWindow)  # a given one comes first


def test_an_inferer_is_set_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, image = tiny_segmenter(), pixels(1, 60, 70)[0].numpy()
    Image.fromarray(image).save(tmp_path / "a.png")
    window = {"_target_": "densekit.inference.SlidingWindow", "window": [16, 16]}
    stored = {"_target_": "densekit.inference.CleanUp", "inferer": window, "min_size": 20}
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt", stored)
    tried = {
        "inferer.min_size=5": CleanUp(SlidingWindow([16, 16]), min_size=5),
        "inferer.inferer.overlap=0.25": CleanUp(SlidingWindow([16, 16], 0.25), min_size=20),
        f"inferer={{_target_:{window['_target_']},window:[24,24]}}": SlidingWindow([24, 24]),
        "inferer={_target_:densekit.inference.WholeImage}": WholeImage(),
    }
    masks = set()
    for word, inferer in tried.items():
        assert predict(checkpoint, tmp_path / "a.png", tmp_path / "o", word) == 0
        values, _ = palette_of(tmp_path / "o" / "masks" / "a.png")
        expected = Predictor(model, inferer=inferer)([image])[0]["segmentation"]["mask"]
        np.testing.assert_array_equal(values, expected)
        masks.add(values.tobytes())
    assert len(masks) == len(tried)
    for word, message in {
        "inferer.min_sise=5": "inferer.min_sise (CleanUp): expected one of",
        "inferer._target_=densekit.inference.WholeImage": "(WholeImage): expected nothing",
        "inferrer.min_size=5": "got 'inferrer.min_size'; did you mean 'inferer'",
        "inferer._target_=os.system": "got os.system; if you trust os, say trust=[os]",
    }.items():
        assert predict(checkpoint, tmp_path / "a.png", tmp_path / "o", word) == 2
        assert message in capsys.readouterr().err


def test_an_inferer_of_a_file_builds_trusted_classes_only(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tiny_segmenter(), tmp_path / "m", {"_target_": "os.system"})
    with pytest.raises(
        ValueError, match="checkpoint .*inferer._target_: expected a class .* got os.system"
    ):
        Predictor(checkpoint, trust=["tests"])


def test_huge_pictures_go_through_in_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(huge, "HUGE", 100 * 100)
    model, image = tiny_segmenter(), pixels(1, 120, 130)[0].numpy()
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "big.tif", image, tile=(64, 64))
    tifffile.imwrite(tmp_path / "in" / "small.tif", image[:50], tile=(64, 64))
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 0
    assert "big.tif: predicted in tiles of 1024 with a margin of 8" in capsys.readouterr().err
    found = tifffile.imread(tmp_path / "o" / "masks" / "big.tif")
    expected = Predictor(model)([image])[0]["segmentation"]["mask"]
    np.testing.assert_array_equal(found, expected)
    assert (tmp_path / "o" / "masks" / "small.png").is_file()
    assert (tmp_path / "o" / "overlays" / "big.jpg").is_file()
    assert len(json.loads((tmp_path / "o" / "images.json").read_text())) == 2


def test_overlapping_classes_of_huge_pictures_are_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huge, "HUGE", 50 * 50)
    model, image = tiny_segmenter(multilabel=True), pixels(1, 60, 70)[0].numpy()
    model.info["heads"]["segmentation"]["plane_values"] = [0, 255]
    tifffile.imwrite(tmp_path / "big.tif", image, tile=(64, 64))
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "big.tif", tmp_path / "o") == 0
    found = tifffile.imread(tmp_path / "o" / "masks" / "big.tif")
    expected = Predictor(model)([image])[0]["segmentation"]["mask"]
    np.testing.assert_array_equal(found, expected.transpose(1, 2, 0) * 255)
    assert (tmp_path / "o" / "overlays" / "big.jpg").is_file()
