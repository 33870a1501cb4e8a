"""Predict: which images, which ids, which files."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from densekit.app.errors import UsageError
from densekit.app.prediction.image_ids import Listed, listed_images
from densekit.app.prediction.run import _run, described_heads, read_case
from densekit.app.prediction.sources import find_images, overlay_names, volume_names
from densekit.app.results.boxes import coco_entries
from densekit.app.results.embeddings import read_embeddings
from densekit.app.results.writer import Writer
from densekit.data.reading.images import ImageReader
from densekit.inference.frames import Frames

RESULT = {
    "boxes": np.array([[1.0, 2.0, 11.0, 22.0], [0.0, 0.0, 5.0, 5.0]], dtype=np.float32),
    "scores": np.array([0.9, 0.2], dtype=np.float32),
    "labels": np.array([1, 0]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "Fotos (größe) =["
    (root / "sub").mkdir(parents=True)
    for name in ("b.png", "a.JPG", "sub/a.png", "sub/c.jpg"):
        Image.new("RGB", (8, 8)).save(root / name)
    (root / "notes.txt").write_text("no image")
    return root


def test_folder_file_and_pattern(folder: Path) -> None:
    files, root = find_images(str(folder))
    assert [str(file.relative_to(root)) for file in files] == [
        "a.JPG",
        "b.png",
        "sub/a.png",
        "sub/c.jpg",
    ]
    assert find_images(str(folder / "b.png")) == ([folder / "b.png"], folder)


def test_pattern(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    files, root = find_images("**/*.png")
    assert files == [Path("b.png"), Path("sub/a.png")]
    assert root == Path()
    files, root = find_images(f"{folder.parent}/*/sub/*.jpg")
    assert root == folder.parent
    assert overlay_names(files, root) == [Path(folder.name, "sub", "c.jpg")]


@pytest.mark.parametrize("source", ["nothing", "*.gif"])
def test_no_image_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="source: expected images, got"):
        find_images(source)


def ids(files: list[Path], annotations: str | None) -> list[int]:
    return [listed.id for listed in listed_images(files, annotations)]


def test_ids_are_numbers_of_the_names_or_positions() -> None:
    assert ids([Path("000000000139.jpg"), Path("7.png")], None) == [139, 7]
    assert ids([Path("a.jpg"), Path("7.png")], None) == [1, 2]
    assert ids([Path("x/7.jpg"), Path("y/7.png")], None) == [1, 2]


def test_ids_of_an_annotation_file(tmp_path: Path) -> None:
    file = tmp_path / "gt.json"
    file.write_text(json.dumps({"images": [{"id": 42, "file_name": "train/a.jpg"}]}))
    assert ids([Path("x/a.jpg")], str(file)) == [42]
    with pytest.raises(UsageError, match="1 of 1 images.*b.jpg"):
        ids([Path("x/b.jpg")], str(file))


def test_ids_are_found_by_path_before_name(tmp_path: Path) -> None:
    file = tmp_path / "gt.json"
    images = [{"id": 1, "file_name": "a/x.jpg"}, {"id": 2, "file_name": "./b/x.jpg"}]
    file.write_text(json.dumps({"images": [*images, {"id": 3, "file_name": "c/y.jpg"}]}))
    assert ids([Path("b/x.jpg"), Path("y.jpg"), Path("a/x.jpg")], str(file)) == [2, 3, 1]


@pytest.mark.parametrize(
    ("listed", "files"),
    [
        (["a/x.jpg", "b/x.jpg"], ["x.jpg"]),  # which of the two is it?
        (["x.jpg"], ["a/x.jpg", "b/x.jpg"]),  # which of the two is meant?
        (["x.jpg"], ["x.jpg", "b/x.jpg"]),
    ],
)
def test_an_id_that_is_unclear_is_refused(
    tmp_path: Path, listed: list[str], files: list[str]
) -> None:
    file = tmp_path / "gt.json"
    images = [{"id": i, "file_name": name} for i, name in enumerate(listed)]
    file.write_text(json.dumps({"images": images}))
    with pytest.raises(
        UsageError, match=r"gt\.json: expected one entry for .*x\.jpg of the same name"
    ):
        ids([Path(name) for name in files], str(file))


@pytest.mark.parametrize("text", ["{", "[]", '{"images": 3}', '{"images": [{"id": 1}]}', "\x00"])
def test_annotations_that_are_no_coco_file_are_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gt.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"gt\.json: expected COCO JSON"):
        ids([Path("a.jpg")], str(file))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_ids_sizes_and_names_of_an_annotation_file(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "gt.json"
    images = [
        {"id": 1726000000000000001, "file_name": "caf\u00e9.jpg", "height": 64, "width": 96},
        {"id": 1726000000000000002, "file_name": "b.jpg"},
    ]
    file.write_bytes(json.dumps({"images": images}, ensure_ascii=False).encode(encoding))
    # macOS stores names decomposed.
    assert listed_images([Path("b.jpg"), Path("cafe\u0301.jpg")], str(file)) == [
        Listed(1726000000000000002),
        Listed(1726000000000000001, (64, 96)),
    ]


@pytest.mark.parametrize("number", [1.5, 1.726e18])
def test_an_id_that_is_not_whole_is_refused(tmp_path: Path, number: float) -> None:
    file = tmp_path / "gt.json"
    file.write_text(json.dumps({"images": [{"id": number, "file_name": "a.jpg"}]}))
    with pytest.raises(UsageError, match=r"gt\.json: .*expected a whole number"):
        listed_images([Path("a.jpg")], str(file))


def test_images_are_predicted_in_the_frame_of_their_annotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 6)).save(tmp_path / "a.jpg", exif=exif)
    model = SimpleNamespace(
        info={"resize": {"min_size": 8}, "heads": {}},
        mean=torch.zeros(1, 3),
        full_scale=255.0,
        heads={},
        spatial_dims=2,
    )
    frames = Frames(model)  # type: ignore[arg-type]
    seen: list[tuple[int, ...]] = []

    class Predicted:
        def __init__(self) -> None:
            self.frames, self.model, self.read = frames, model, frames.read

        def __call__(self, images: list[Any]) -> list[dict[str, Any]]:
            seen.append(images[0].shape)
            return [{}]

    writer = Writer(tmp_path / "out", {})
    for size in ((6, 9), (9, 6), None):
        cases, names = [[tmp_path / "a.jpg"]], [Path("a.jpg")]
        predicted: Any = Predicted()
        read = partial(read_case, predicted, None)
        assert not _run(predicted, read, cases, [Listed(1, size)], names, writer)
    assert seen == [(6, 9, 3), (9, 6, 3), (9, 6, 3)]


def test_what_systems_and_editors_leave_behind_is_no_image(folder: Path) -> None:
    before = find_images(str(folder))[0]
    for name in ("._a.JPG", ".ipynb_checkpoints/a.png", "sub/._c.jpg", "Thumbs.db", ".DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"\0\5\x16\7")
    assert find_images(str(folder))[0] == before


def test_a_model_without_class_names_is_refused() -> None:
    known = {"names": ["x"], "ids": [3]}
    assert described_heads({"heads": {"cells": known}}, Path("m.pt")) == {"cells": known}
    for info in ({}, {"heads": {}}, {"heads": {"cells": known, "other": {"names": ["x"]}}}):
        with pytest.raises(UsageError, match=r"m\.pt: expected heads\.(NAME|other) with ids"):
            described_heads(info, Path("m.pt"))


def test_coco_entries_carry_original_ids_and_xywh() -> None:
    first, second = coco_entries(RESULT, 139, [3, 17])
    assert first["category_id"] == 17
    assert first["bbox"] == [1.0, 2.0, 10.0, 20.0]
    assert first["image_id"] == second["image_id"] == 139
    assert second["category_id"] == 3
    assert first["score"] == pytest.approx(0.9)


def test_overlays_of_equal_names_do_not_collide() -> None:
    files = [Path("r/a.jpg"), Path("r/a.png"), Path("r/b.tif")]
    names = overlay_names(files, Path("r"))
    assert names == [Path("a.jpg.jpg"), Path("a.png.jpg"), Path("b.jpg")]


def test_no_two_overlays_share_a_name() -> None:
    names = ["a.jpg", "a.png", "a.png.gif", "a_2.jpg", "sub/a.jpg", "x.png", "x.jpg"]
    found = overlay_names([Path("r", name) for name in names], Path("r"))
    assert found[:3] == [Path("a.jpg.jpg"), Path("a.png.jpg"), Path("a.png_2.jpg")]
    assert len(set(found)) == len(names)


def test_names_of_overlays_are_found_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = 0

    def count(self: Path, other: object, equal=Path.__eq__) -> bool:
        nonlocal compared
        compared += 1
        return bool(equal(self, other))

    files = [Path("r", f"{number}.png") for number in range(2000)]
    cases = [[Path("r", f"{number}.nii.gz")] for number in range(2000)]
    monkeypatch.setattr(type(files[0]), "__eq__", count)
    overlay_names(files, Path("r"))
    volume_names(cases, Path("r"))
    assert compared < 20 * len(files)  # of all pairs it would be 4 million


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"\xff\xfe.png", "größe写.png".encode()])
def test_results_of_a_name_of_any_bytes_are_written(name: bytes, tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "in")
    Path(os.fsdecode(root)).mkdir()
    Image.new("RGB", (8, 8)).save(os.path.join(root, name), "png")  # noqa: PTH118
    files, folder = find_images(str(tmp_path / "in"))
    shown = name.decode("utf-8", "backslashreplace")
    heads = {
        "boxes": {"ids": [3, 17], "names": ["x", "y"]},
        "kind": {"ids": [0, 1], "names": ["x", "y"]},
        "mask": {"ids": [0, 1], "names": ["x", "y"], "num_classes": 2, "background": True},
        "person": {"num_identities": 2},
    }
    kind = {"labels": np.array([1]), "scores": np.ones(1), "probabilities": np.array([0.2, 0.8])}
    results = {
        "boxes": RESULT,
        "kind": kind,
        "mask": {"mask": np.zeros((8, 8), np.uint8)},
        "person": {"embedding": np.ones(4, np.float32)},
    }
    writer = Writer(tmp_path / "out", heads)
    image = ImageReader()(files[0])
    writer.add(image, 1, files[0], overlay_names(files, folder)[0], results)
    writer.close()
    out = tmp_path / "out"
    (entry,) = json.loads((out / "images.json").read_text("utf-8"))
    assert entry["file_name"] == str(folder / shown)
    assert str(folder / shown) in (out / "categories_kind.csv").read_text("utf-8")
    assert read_embeddings(out / "embeddings.npz")[0] == [str(folder / shown)]
    stem = Path(shown).stem
    assert (out / "masks" / "mask" / f"{stem}.png").is_file()
    assert (out / "overlays" / "boxes" / f"{stem}.jpg").is_file()


def test_writer_writes_every_file(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "out", {"detection": {"ids": [3, 17], "names": ["x", "y"]}})
    image = np.zeros((30, 40, 3), dtype=np.uint8)
    writer.add(image, 5, Path("a.png"), Path("sub/a.jpg"), {"detection": RESULT})
    writer.close()
    entries = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(entries) == 2  # the threshold is for pictures
    assert json.loads((tmp_path / "out" / "images.json").read_text()) == [
        {"id": 5, "file_name": "a.png", "height": 30, "width": 40}
    ]
    assert (tmp_path / "out" / "overlays" / "sub" / "a.jpg").is_file()
