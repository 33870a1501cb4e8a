"""`densekit predict` with masks: PNG, NIfTI and tiled TIFF, in the source's own frame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from densekit import DenseModel, Predictor
from densekit.app import huge
from densekit.app.cli import main
from densekit.app.errors import UsageError
from densekit.app.sources import by_case, find_volumes, volume_names
from densekit.app.write_masks import MaskClasses, MaskWriter
from densekit.app.write_volumes import shown_slices
from densekit.artifact import save_artifact
from densekit.data import read_volume
from densekit.data.volumes import read_channels
from densekit.inference import CleanUp, SlidingWindow, TestTimeAugmentation, WholeImage
from densekit.pictures import class_colour
from tests.unit.data.medical_files import write_series
from tests.unit.inference.segmenter import pixels, tiny_segmenter

AFFINE = np.array([[-1.5, 0.1, 0, 20], [0, 2, 0.2, -7], [0, 0, 3, 11], [0, 0, 0, 1.0]])


def checkpoint_of(model: DenseModel, path: Path, inferer: dict[str, Any] | None = None) -> Path:
    """A checkpoint that rebuilds a `tiny_segmenter`."""
    where = "tests.unit.inference.segmenter"
    info = model.info["heads"]["segmentation"]
    backbone: Any = model.backbone
    cfg: dict[str, Any] = {
        "backbone": {
            "_target_": f"{where}.TinyEncoder",
            "channels": backbone.features["c0"].channels,
            "dims": model.spatial_dims,
        },
        "heads": {
            "segmentation": {
                "_target_": f"{where}.TinyUNet",
                "num_classes": info["num_classes"],
                "multilabel": info["multilabel"],
            }
        },
    }
    cfg |= {"inferer": inferer} if inferer else {}
    save_artifact(path, model, yaml.safe_dump(cfg))
    return path


def predict(checkpoint: Path, source: Path | str, output: Path, *more: str) -> int:
    words = [f"checkpoint={checkpoint}", f"source={source}", f"output={output}"]
    return main(["predict", *words, "trust=[tests]", "device=cpu", *more])


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


def nifti(path: Path, *shape: int, seed: int = 0) -> NDArray[Any]:
    """Writes a volume (x, y, z) with an oblique affine and returns it as (z, y, x)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = pixels(1, *shape, seed=seed)[0].numpy()
    image = nibabel.Nifti1Image(values.transpose(2, 1, 0).copy(), AFFINE)
    image.header["descrip"] = b"scanner 7"
    nibabel.save(image, path)
    return values


def volume_segmenter() -> DenseModel:
    model = tiny_segmenter(
        dims=3,
        dtype="float32",
        intensity={"kind": "range", "low": 0, "high": 80},
        spacing=[3, 3, 3],
    )
    model.info |= {"mean": [0.0], "std": [1.0]}
    return model.float()


def test_a_dicom_folder_comes_back_in_its_own_frame(tmp_path: Path) -> None:
    values = pixels(1, 6, 14, 12)[0].numpy().astype(np.uint16)
    scan = write_series(tmp_path / "in" / "scan", values)
    several = np.stack([pixels(1, 9, 8, 8)[0].numpy()] * 2, axis=-1)
    nibabel.save(nibabel.Nifti1Image(several, AFFINE), tmp_path / "in" / "two_channels.nii.gz")
    checkpoint = checkpoint_of(volume_segmenter(), tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 1  # the other is no image for it
    volume, mask = read_volume(scan), nibabel.load(tmp_path / "o" / "masks" / "scan.nii.gz")
    assert mask.shape == volume.shape[::-1] == (12, 14, 6)
    np.testing.assert_allclose(mask.affine, volume.affine, rtol=1e-6, atol=1e-6)
    assert len(np.unique(np.asarray(mask.dataobj))) > 1
    assert (tmp_path / "o" / "overlays" / "scan.jpg").is_file()


def test_volumes_come_back_in_their_own_frame(tmp_path: Path) -> None:
    model = volume_segmenter()
    values = nifti(tmp_path / "in" / "case.1.nii.gz", 9, 14, 12)
    nifti(tmp_path / "in" / "deep" / "b.nii", 5, 8, 8)
    (tmp_path / "in" / "c.nii.gz").write_bytes(b"broken")
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 1  # one was broken
    source = nibabel.load(tmp_path / "in" / "case.1.nii.gz")
    mask = nibabel.load(tmp_path / "o" / "masks" / "case.1.nii.gz")
    np.testing.assert_array_equal(mask.affine, source.affine)
    assert mask.shape == source.shape == values.T.shape
    assert mask.header["descrip"] == source.header["descrip"]
    found = np.asarray(mask.dataobj)
    assert len(np.unique(found)) > 1
    (result,) = Predictor(model)([tmp_path / "in" / "case.1.nii.gz"])
    np.testing.assert_array_equal(result["segmentation"]["mask"].transpose(2, 1, 0), found)
    assert (tmp_path / "o" / "masks" / "deep" / "b.nii.gz").is_file()
    assert (tmp_path / "o" / "overlays" / "case.1.jpg").is_file()
    entries = json.loads((tmp_path / "o" / "images.json").read_text())
    assert [(e["depth"], e["height"], e["width"]) for e in entries] == [(9, 14, 12), (5, 8, 8)]


def test_broken_scans_are_listed_and_the_others_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    nifti(folder / "a.nii.gz", 6, 8, 8)
    whole = (folder / "a.nii.gz").read_bytes()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), folder / "z.nii")
    damaged = bytearray(whole)
    damaged[200:240] = bytes(40)
    broken = {"b.nii.gz": whole[:-200], "c.nii.gz": bytes(damaged), "d.nii": b"", "e.mha": b"text"}
    broken |= {"f.nrrd": b"", "g.hdr": b"text", "h/1.dcm": b""}
    for name, content in broken.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    checkpoint = checkpoint_of(volume_segmenter(), tmp_path / "m.ckpt")
    assert predict(checkpoint, folder, tmp_path / "o") == 1
    found = sorted(file.name for file in (tmp_path / "o" / "masks").iterdir())
    assert found == ["a.nii.gz", "z.nii.gz"]
    said = capsys.readouterr().out
    assert "7 images could not be read:" in said
    flat = said.replace("\n", "")
    assert all(f"{folder / name}: " in flat for name in broken)


def test_channels_of_a_case_are_files(tmp_path: Path) -> None:
    model = tiny_segmenter(dims=3, channels=2, dtype="float32")
    for number in (0, 1):
        nifti(tmp_path / "in" / f"p7_000{number}.nii.gz", 6, 8, 8, seed=number)
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 0
    assert [file.name for file in (tmp_path / "o" / "masks").iterdir()] == ["p7.nii.gz"]
    files, _ = find_volumes(str(tmp_path / "in"))
    with pytest.raises(UsageError, match=r"p7_0000 and so on: found 2 files, the model takes 3"):
        by_case(files, 3)
    assert by_case(files, 1) == [[file] for file in files]


def test_channels_of_a_patient_are_named_files(tmp_path: Path) -> None:
    model = tiny_segmenter(dims=3, channels=2, dtype="float32", orientation="RAS")
    checkpoint = checkpoint_of(model, tmp_path / "m.ckpt")
    for patient in ("P1", "P2"):
        for seed, name in enumerate(("flair", "t1", "seg")):
            nifti(tmp_path / "in" / patient / f"{patient}_{name}.nii.gz", 6, 8, 8, seed=seed)
    nifti(tmp_path / "in" / "P2" / "P2_t1.nii.gz", 5, 8, 8)  # another grid
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o", "channels=[t1,flair]") == 1
    (file,) = (tmp_path / "o" / "masks").rglob("*.nii.gz")
    assert file.name == "P1_t1.nii.gz"
    paths = [tmp_path / "in" / "P1" / f"P1_{name}.nii.gz" for name in ("t1", "flair")]
    (result,) = Predictor(model)([read_channels(paths)])
    found = np.asarray(nibabel.load(file).dataobj).T
    np.testing.assert_array_equal(found, result["segmentation"]["mask"])
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o", "channels=[t2,flair]") == 2


def test_one_series_of_a_folder(tmp_path: Path) -> None:
    values = pixels(1, 6, 14, 12)[0].numpy().astype(np.uint16)
    folder = write_series(tmp_path / "in" / "scan", values)
    for file in list(folder.iterdir()):
        file.rename(folder / f"t1_{file.name}")
    tags = {"SeriesInstanceUID": "1.2.9", "SeriesDescription": "T2"}
    write_series(folder, values[:4], **tags)
    checkpoint = checkpoint_of(volume_segmenter(), tmp_path / "m.ckpt")
    assert predict(checkpoint, tmp_path / "in", tmp_path / "o") == 1
    for series, depth in (("T1", 6), ("T?", None), ("1.2.9", 4)):
        code = predict(checkpoint, tmp_path / "in", tmp_path / series, f"series={series}")
        assert code == (depth is None)
        for file in (tmp_path / series / "masks").glob("*"):
            assert nibabel.load(file).shape == (12, 14, depth)


def test_regions_become_one_map_of_labels(tmp_path: Path) -> None:
    model = tiny_segmenter(dims=3, dtype="float32", classes=2, multilabel=True, orientation="RAS")
    nifti(tmp_path / "in" / "a.nii.gz", 6, 8, 8)
    (result,) = Predictor(model)([tmp_path / "in" / "a.nii.gz"])
    first, second = result["segmentation"]["mask"]
    assert first.any()
    assert second.any()
    assert predict(checkpoint_of(model, tmp_path / "p.ckpt"), tmp_path / "in", tmp_path / "p") == 0
    planes = np.asarray(nibabel.load(tmp_path / "p" / "masks" / "a.nii.gz").dataobj)
    np.testing.assert_array_equal(planes.T, [first, second])
    model.info["heads"]["segmentation"]["regions_class_order"] = [2, 300]
    assert predict(checkpoint_of(model, tmp_path / "m.ckpt"), tmp_path / "in", tmp_path / "o") == 0
    labels = np.asarray(nibabel.load(tmp_path / "o" / "masks" / "a.nii.gz").dataobj).T
    np.testing.assert_array_equal(labels, np.where(second == 1, 300, np.where(first == 1, 2, 0)))
    legend = json.loads((tmp_path / "o" / "classes.json").read_text())["segmentation"]
    assert [entry["value"] for entry in legend] == [2, 300]


def test_which_volumes(tmp_path: Path) -> None:
    for name in ("a/1.dcm", "a/2.dcm", "b/IM0001", "c/d/x.nii.gz", "c/d/x.nii", "c/notes"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0" * 128 + (b"DICM" if "IM" in name else b"text"))
    files, root = find_volumes(str(tmp_path))
    assert [str(file.relative_to(root)) for file in files] == [
        "a",
        "b",
        "c/d/x.nii",
        "c/d/x.nii.gz",
    ]
    names = volume_names([[file] for file in files], root)
    assert list(map(str, names)) == ["a.jpg", "b.jpg", "c/d/x.nii.jpg", "c/d/x.nii.gz.jpg"]
    assert find_volumes(str(tmp_path / "a")) == ([tmp_path / "a"], tmp_path)
    assert find_volumes(f"{tmp_path}/[ab]") == ([tmp_path / "a", tmp_path / "b"], tmp_path)
    for source in (None, str(tmp_path / "c" / "nothing"), str(tmp_path / "*.nii")):
        with pytest.raises(UsageError, match="source="):
            find_volumes(source)


def test_shown_slices() -> None:
    mask = np.zeros((40, 2, 2), np.uint8)
    assert len(shown_slices(mask, [1])) == 12
    mask[[3, 9, 30]] = 1
    mask[5] = 255
    assert shown_slices(mask, [1]) == [3, 9, 30]
    assert shown_slices(np.stack([mask * 0, mask]), [1]) == [3, 9, 30]


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
        "inferer.min_sise=5": "inferer.min_sise: CleanUp has no such argument. Did you mean",
        "inferer._target_=densekit.inference.WholeImage": "WholeImage has no such argument",
        "inferrer.min_size=5": "no option 'inferrer.min_size'. Did you mean 'inferer'",
        "inferer._target_=os.system": "inferer._target_: os.system is refused",
    }.items():
        assert predict(checkpoint, tmp_path / "a.png", tmp_path / "o", word) == 2
        assert message in capsys.readouterr().err


def test_an_inferer_of_a_file_builds_trusted_classes_only(tmp_path: Path) -> None:
    checkpoint = checkpoint_of(tiny_segmenter(), tmp_path / "m", {"_target_": "os.system"})
    with pytest.raises(ValueError, match="checkpoint .*inferer._target_: os.system is refused"):
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
