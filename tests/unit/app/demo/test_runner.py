"""What the page shows and offers as files, for every kind of result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from densekit import Predictor
from densekit.app.demo.boxes import Boxes
from densekit.app.demo.canvas import LARGEST, Flat, Place, canvas_of
from densekit.app.demo.categories import Category
from densekit.app.demo.embeddings import Gallery
from densekit.app.demo.examples import find_examples
from densekit.app.demo.other import plain
from densekit.app.demo.runner import HALVES, Runner
from densekit.app.errors import UsageError
from densekit.app.prediction.embedder import Embedder
from densekit.data import read_volume
from densekit.inference.thresholds import Threshold
from densekit.visualization.colours import class_colour
from tests.unit.app.commands.test_predict_volumes import nifti, volume_segmenter
from tests.unit.app.demo.models import HEADS, NAMES, of_images
from tests.unit.app.predicting import checkpoint_of
from tests.unit.app.predicting import predict as predict_files
from tests.unit.data.medical_files import write_series
from tests.unit.inference.segmenter import pixels, tiny_segmenter

FIRST = Place()


def picture(path: Path, seed: int = 0, size: tuple[int, ...] = (64, 96, 3)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def images() -> Predictor:
    return Predictor(of_images())


@pytest.fixture(scope="module")
def volumes() -> Predictor:
    return Predictor(volume_segmenter())


@pytest.fixture
def runner(images: Predictor, tmp_path: Path) -> Runner:
    return Runner(images, tmp_path / "results")


def test_every_head_is_shown_by_what_its_result_holds(runner: Runner, tmp_path: Path) -> None:
    outcome = runner.run([picture(tmp_path / "a.png")])
    shown = {head: type(view).__name__ for head, view in outcome.views.items()}
    assert shown == {
        "detection": "Boxes",
        "category": "Category",
        "identity": "Similar",
        "brightness": "Values",
    }
    panel = outcome.views["brightness"].panel(0, FIRST)
    assert panel.values.keys() == {"mean"}
    assert isinstance(panel.values["mean"], float)
    assert outcome.about == "a.png: 96 x 64 pixels"
    assert outcome.compares
    names = {file.name for file in outcome.files}
    assert names == {
        "results.json",
        "categories_category.csv",
        "embeddings.npz",
        "images.json",
    }


def test_the_threshold_redraws_without_another_prediction(runner: Runner, tmp_path: Path) -> None:
    file = picture(tmp_path / "7.png")
    outcome = runner.run([file])
    (expected,) = runner.predictor([file])
    scores = np.sort(expected["detection"]["scores"])[::-1]
    view = outcome.views["detection"]
    assert len(scores) > 3
    none, some, every = (view.panel(value, FIRST) for value in (1.01, float(scores[2]), 0.0))
    assert [len(p.rows.cells) for p in (none, some, every)] == [0, 3, len(scores)]
    assert [row[1] for row in some.rows.cells] == pytest.approx(scores[:3], abs=1e-4)
    assert some.note == f"3 boxes of {len(scores)}"
    assert (none.picture != every.picture).any()
    written = json.loads(next(f for f in outcome.files if f.name == "results.json").read_text())
    assert len(written) == len(scores)  # all boxes, as `densekit predict` writes them
    assert {entry["image_id"] for entry in written} == {7}


def test_the_slider_starts_at_the_measured_threshold() -> None:
    result = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, int)}
    canvas = Flat(np.zeros((8, 8, 3), np.uint8))
    slider = Boxes(canvas, result, NAMES, Threshold((0.31,) * 3, "best F1 at IoU 0.5")).slider
    assert slider.start == 0.31
    assert slider.label.endswith(": 0.31 (best F1 at IoU 0.5)")


def test_classes_have_thresholds_of_their_own_until_the_slider_is_moved() -> None:
    boxes = np.zeros((3, 4), np.float32)
    result = {"boxes": boxes, "scores": np.array([0.4, 0.4, 0.4]), "labels": np.arange(3)}
    canvas = Flat(np.zeros((8, 8, 3), np.uint8))
    view = Boxes(canvas, result, NAMES, Threshold((0.2, 0.5, 0.3), "measured"))
    assert [row[0] for row in view.panel(None, FIRST).rows.cells] == [NAMES[0], NAMES[2]]
    assert view.panel(0.3, FIRST).note == "3 boxes"
    assert view.panel(0.41, FIRST).note == "0 boxes of 3"


@pytest.mark.parametrize(("classes", "multilabel"), [(1, False), (2, True)])
def test_the_threshold_of_a_mask_is_moved(classes: int, multilabel: bool, tmp_path: Path) -> None:
    model, file = tiny_segmenter(classes=classes, multilabel=multilabel), tmp_path / "a.png"
    picture(file, size=(40, 56))
    view = Runner(Predictor(model), tmp_path / "results").run([file]).views["segmentation"]
    for at in (None, 0.3, 0.7):
        (expected,) = Predictor(model, threshold=at)(file)
        mask = expected["segmentation"]["mask"]
        planes = mask if multilabel else [mask == 1]
        rows = view.panel(at, FIRST).rows.cells
        assert [row[1] for row in rows] == [int(np.sum(plane)) for plane in planes]
    assert view.slider.label.startswith("threshold of the score")


def test_a_mask_of_exclusive_classes_has_an_opacity(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", size=(40, 56))
    runner = Runner(Predictor(tiny_segmenter()), tmp_path / "results")
    view = runner.run([tmp_path / "a.png"]).views["segmentation"]
    assert view.slider.label == "opacity"
    faint, strong = (view.panel(value, FIRST) for value in (0.1, 0.9))
    assert (faint.picture != strong.picture).any()
    assert faint.rows == strong.rows


def test_boxes_of_a_large_image_are_drawn_on_a_small_one() -> None:
    canvas = Flat(np.zeros((1000, 4000, 3), np.uint8))
    assert canvas.picture(FIRST).shape == (LARGEST // 4, LARGEST, 3)
    boxes = np.array([[2000, 500, 4000, 1000]], np.float32)
    result = {"boxes": boxes, "scores": np.ones(1), "labels": np.zeros(1, int)}
    drawn = Boxes(canvas, result, NAMES, HALVES).panel(None, FIRST)
    rows, columns = np.nonzero((drawn.picture == class_colour(0)).all(axis=2))
    assert rows.max() in range(LARGEST // 4 - 3, LARGEST // 4)
    assert columns.max() in range(LARGEST - 3, LARGEST)
    assert columns.min() in range(LARGEST // 2 - 1, LARGEST // 2 + 2)
    assert drawn.rows.cells[0][2:] == [2000, 500, 4000, 1000]  # in pixels of the file


def test_labels_are_those_above_the_threshold() -> None:
    probabilities = np.array([0.2, 0.9, 0.6], np.float32)
    result = {"probabilities": probabilities, "labels": np.array([1, 2]), "scores": [0.9, 0.6]}
    canvas = Flat(np.zeros((8, 8, 3), np.uint8))
    view = Category(canvas, result, NAMES, HALVES)
    assert view.slider.start == 0.5
    assert view.panel(None, FIRST).note == "square 0.90, <b>moon</b> 0.60"
    assert view.panel(0.7, FIRST).note == "square 0.90"
    assert view.panel(0.95, FIRST).note == "nothing"
    assert list(view.panel(0.5, FIRST).shares) == ["square", "<b>moon</b>", "star"]
    assert Category(canvas, result, NAMES).slider is None


def test_two_images_are_compared(runner: Runner, tmp_path: Path) -> None:
    one, two = picture(tmp_path / "1.png"), picture(tmp_path / "2.png", seed=1)
    alone = runner.run([one]).views["identity"]
    assert alone.slider is None
    assert "second image" in alone.panel(0, FIRST).note
    view = runner.run([one], [two]).views["identity"]
    first, second = (each["identity"]["embedding"] for each in runner.predictor([one, two]))
    similarity = float(first @ second)
    assert view.panel(similarity - 1e-3, FIRST).note == f"similarity {similarity:.4f}: same"
    assert view.panel(similarity + 1e-3, FIRST).note.endswith(": different")


def test_a_gallery_is_searched(images: Predictor, tmp_path: Path) -> None:
    for number in range(7):
        picture(tmp_path / "people" / f"{number}.png", seed=number)
    (tmp_path / "people" / "broken.png").write_text("no image")
    gallery = Gallery(tmp_path / "people", Embedder(images, "identity"))
    assert ["broken.png" in message for message in gallery.broken] == [True]
    runner = Runner(images, tmp_path / "results", {"identity": gallery})
    panel = runner.run([tmp_path / "people" / "3.png"]).views["identity"].panel(0.999, FIRST)
    assert len(panel.rows.cells) == 5
    assert panel.rows.cells[0] == [1, "3.png", 1.0, "same"]
    similarities = [row[2] for row in panel.rows.cells]
    assert similarities == sorted(similarities, reverse=True)


def test_a_gallery_of_another_model_is_refused(images: Predictor, tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", path=["/etc/passwd"], embedding=np.ones((1, 3), np.float32))
    gallery = Gallery(tmp_path / "e.npz", Embedder(images, "identity"))
    assert gallery.thumbnail(0) is None  # no file is read because a file names it
    runner = Runner(images, tmp_path / "results", {"identity": gallery})
    with pytest.raises(ValueError, match="gallery: expected embeddings of 8 numbers"):
        runner.run([picture(tmp_path / "a.png")])


def test_the_files_are_those_of_predict(tmp_path: Path) -> None:
    model = tiny_segmenter()
    checkpoint, file = checkpoint_of(model, tmp_path / "m.ckpt"), tmp_path / "in" / "x.png"
    picture(file, size=(40, 56))
    assert predict_files(checkpoint, file, tmp_path / "out", "overlays=false") == 0
    predictor = Predictor(checkpoint, trust=["tests"])
    outcome = Runner(predictor, tmp_path / "results").run([file])
    root = outcome.folder / "results"
    found = {str(written.relative_to(root)): written for written in outcome.files}
    assert found.keys() == {"masks/x.png", "classes.json", "images.json"}
    for name in ("masks/x.png", "classes.json"):
        assert found[name].read_bytes() == (tmp_path / "out" / name).read_bytes()
    outcome.remove()
    assert not outcome.folder.exists()


@pytest.fixture
def volume(volumes: Predictor, tmp_path: Path) -> tuple[Any, Path, Any]:
    """A volume of 9 x 12 x 10 voxels of 3 x 2 x 1.5 mm, its view, and its written mask."""
    file = tmp_path / "scan.nii.gz"
    nifti(file, 9, 12, 10)
    outcome = Runner(volumes, tmp_path / "results").run([file])
    written = next(path for path in outcome.files if path.name == "scan.nii.gz")
    return outcome.views["segmentation"], file, nibabel.load(written)


def test_a_volume_is_shown_slice_by_slice(volume: tuple[Any, Path, Any]) -> None:
    view, file, mask = volume
    assert view.canvas.axes == ("axial", "coronal", "sagittal")
    assert view.canvas.lengths == (9, 12, 10)
    labels = np.asarray(mask.dataobj)  # (x, y, z), x to the left, y to anterior
    for axis, stored in enumerate((2, 1, 0)):
        best = view.best(axis)
        counts = (labels > 0).sum(axis=tuple(a for a in range(3) if a != stored))
        assert counts[best if axis != 1 else 11 - best] == counts.max()
        panel = view.panel(0.4, Place(axis, best))
        height, width = (round(side) for side in ((24, 15), (27, 15), (27, 24))[axis])
        found = panel.picture.shape[1] / width
        assert view.canvas.picture(Place(axis, best)).shape[0] == pytest.approx(
            height * found, 0.02
        )
    np.testing.assert_allclose(mask.affine, read_volume(file).affine)
    voxels = [row[1] for row in view.panel(0.4, FIRST).rows.cells]
    assert voxels == [int((labels == 1).sum()), int((labels == 2).sum())]
    millilitres = view.panel(0.4, FIRST).rows.cells[0][2]
    volume_of_one = abs(np.linalg.det(mask.affine[:3, :3]))
    assert millilitres == pytest.approx(voxels[0] * volume_of_one / 1000, rel=0.02, abs=1e-3)


def test_slices_are_seen_from_the_feet_with_the_nose_up(tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6), np.float32)  # (x, y, z) to the right, anterior, superior
    values[3, 4, 5] = 1
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii.gz")
    canvas = canvas_of(read_volume(tmp_path / "v.nii.gz"))
    mask = values.transpose(2, 1, 0) > 0
    corners = [
        np.argwhere(canvas.mask(mask, place)).mean(axis=0) / canvas.mask(mask, place).shape
        for place in (Place(0, 5), Place(1, 0), Place(2, 0))
    ]
    above = [[corner[0] < 0.3, corner[1] < 0.3] for corner in corners]
    assert above == [[True, True]] * 3  # anterior and superior up; the patient's right on the left


def test_a_volume_without_orientation_is_shown_as_stored(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.float32), None)
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, tmp_path / "v.nii.gz")
    canvas = canvas_of(read_volume(tmp_path / "v.nii.gz"))
    assert canvas.axes == ("z", "y", "x")
    assert canvas.lengths == (6, 5, 4)


def test_dicom_files_are_one_volume(volumes: Predictor, tmp_path: Path) -> None:
    series = write_series(tmp_path / "s", pixels(1, 6, 14, 12)[0].numpy().astype(np.uint16))
    outcome = Runner(volumes, tmp_path / "results").run(sorted(series.iterdir()))
    assert outcome.views["segmentation"].canvas.lengths == (6, 12, 14)  # lies on its side
    assert any(file.name.endswith(".nii.gz") for file in outcome.files)


def test_a_series_is_drawn_as_lines(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "s.csv", pixels(1, 40)[0].numpy(), delimiter=",")
    model = tiny_segmenter(dims=1, dtype="float32")
    outcome = Runner(Predictor(model.float()), tmp_path / "results").run([tmp_path / "s.csv"])
    panel = outcome.views["segmentation"].panel(0.4, FIRST)
    assert panel.picture.shape[1] == 480
    assert panel.rows.header == ("class", "pixels", "share in %")


def text_file(path: Path) -> list[Path]:
    path.write_text("no image")
    return [path]


def deep(path: Path) -> list[Path]:
    Image.fromarray(np.full((16, 16), 40000, np.uint16)).save(path)
    return [path]


def huge(path: Path) -> list[Path]:
    Image.new("1", (9000, 9000)).save(path)
    return [path]


def two(path: Path) -> list[Path]:
    return [picture(path), picture(path.with_name("b.png"))]


def a_volume(path: Path) -> list[Path]:
    nifti(path, 4, 4, 4)
    return [path]


BAD = {
    "text": (text_file, "a.png", "a.png: expected .*image"),
    "kind": (text_file, "a.docx", "a.docx: expected an image, .*got another kind of file"),
    "deep": (deep, "a.png", "a.png: .*uint8|8 bits"),
    "huge": (huge, "a.png", "a.png: expected an image of at most 67,108,864 pixels"),
    "two": (two, "a.png", r"a\.png, b\.png: expected an image.* one at a time, got 2"),
    "volume": (a_volume, "v.nii.gz", "v.nii.gz: expected an image"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_named_and_the_next_one_is_predicted(
    name: str, runner: Runner, tmp_path: Path
) -> None:
    make, file, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        runner.run(make(tmp_path / file))
    assert str(tmp_path) not in str(caught.value)  # as the user named it
    assert runner.run([picture(tmp_path / "good.png")]).views
    assert not any((runner.folder / "000001").glob("*"))


def test_what_is_no_volume_is_named(volumes: Predictor, tmp_path: Path) -> None:
    runner = Runner(volumes, tmp_path / "results")
    (tmp_path / "broken.nii.gz").write_bytes(b"\x1f\x8b no volume")
    with pytest.raises(ValueError, match=r"^broken\.nii\.gz: "):
        runner.run([tmp_path / "broken.nii.gz"])
    several = np.zeros((4, 4, 4, 2), np.float32)
    nibabel.save(nibabel.Nifti1Image(several, np.eye(4)), tmp_path / "two.nii.gz")
    with pytest.raises(ValueError, match=r"^two\.nii\.gz: expected 1 channels, got 2"):
        runner.run([tmp_path / "two.nii.gz"])
    with pytest.raises(ValueError, match=r"^a\.png: expected a volume"):
        runner.run([picture(tmp_path / "a.png")])


def test_a_grey_image_becomes_colour(runner: Runner, tmp_path: Path) -> None:
    assert runner.run([picture(tmp_path / "g.png", size=(64, 96))]).views


def test_examples_are_the_readable_images(images: Predictor, tmp_path: Path) -> None:
    for number in range(26):
        picture(tmp_path / "in" / f"{number:02d}.png", seed=number, size=(20, 512, 3))
    (tmp_path / "in" / "00.png").write_text("no image")
    found = find_examples(str(tmp_path / "in"), images, tmp_path / "copies")
    assert [found[0].name, found[-1].name, len(found)] == ["01.png", "24.png", 24]
    assert found[0].picture.shape == (10, 256, 3)
    assert found[0].files[0].read_bytes() == (tmp_path / "in" / "01.png").read_bytes()
    with pytest.raises(UsageError, match="source"):
        find_examples(str(tmp_path / "none"), images, tmp_path / "copies")


def test_values_of_any_kind_become_plain() -> None:
    assert plain({"a": np.float32(0.5), "b": [np.arange(3)], "c": None}) == {
        "a": 0.5,
        "b": [[0, 1, 2]],
        "c": None,
    }
    assert plain(np.array([1.0, np.nan])) == [1.0, None]
    assert plain(np.zeros((30, 40))) == "30 x 40 numbers from 0 to 0"
    assert plain(np.array(["x"])) == "['x']"
    assert json.dumps(plain(HEADS))


def test_a_volume_of_several_files(tmp_path: Path) -> None:
    for channel in range(2):
        nifti(tmp_path / f"case_000{channel}.nii.gz", 4, 5, 6, seed=channel)
    model = tiny_segmenter(dims=3, channels=2, dtype="float32").float()
    runner = Runner(Predictor(model), tmp_path / "results")
    files = sorted(tmp_path.glob("*.nii.gz"))
    assert "case.nii.gz" in {file.name for file in runner.run(files).files}
    with pytest.raises(ValueError, match=r"expected 2 files, one per channel of the model, got 1"):
        runner.run(files[:1])


def test_a_network_of_slices_takes_volumes(tmp_path: Path) -> None:
    nifti(tmp_path / "v.nii.gz", 9, 12, 10)
    model = tiny_segmenter(classes=1, slices={"axis": 1}, dtype="float32").float()
    view = Runner(Predictor(model), tmp_path / "results").run([tmp_path / "v.nii.gz"]).views
    assert view["segmentation"].canvas.lengths == (9, 12, 10)
    assert view["segmentation"].panel(None, FIRST).rows.header[2] == "millilitres"
