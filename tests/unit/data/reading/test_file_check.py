"""Broken files: found before the first step, all of them, and never half a picture."""

from __future__ import annotations

import io
import logging
import os

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image

from densekit.data import (
    CocoDetection,
    DataModule,
    ImageFolder,
    MaskFolder,
    Repeat,
    Scenes,
    Source,
    Subset,
    VocDetection,
    read_image,
)
from densekit.data.reading.file_check import broken_files
from densekit.data.reading.stored_values import stored_values

NOISE = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
SMOOTH = np.tile(np.arange(70, dtype=np.uint8)[None, :, None], (90, 1, 3))
OPTIONS = [
    ("JPEG", {}),
    ("JPEG", {"subsampling": 0, "quality": 98}),
    ("JPEG", {"quality": 30, "optimize": True}),
    ("PNG", {}),
    ("WEBP", {}),
    ("AVIF", {}),
]


def encoded(pixels, kind, options):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@pytest.mark.parametrize("pixels", [NOISE, SMOOTH, np.full_like(NOISE, 128)])
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_half_a_picture_never_passes(tmp_path, kind, options, pixels, share):
    path, content = tmp_path / "x", encoded(pixels, kind, options)
    path.write_bytes(content)
    assert read_image(path).shape == pixels.shape
    path.write_bytes(content + bytes(200))  # cameras fill up their files
    assert read_image(path).shape == pixels.shape
    part = content[: int(len(content) * share)]
    lost = len(content) - len(part)
    if lost < 64:  # nothing is lost of one colour
        return
    for damaged in (part, part + bytes(lost), part + b"\xff\xd9"):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"x: expected a readable image"):
            read_image(path)


def test_half_a_mask_never_passes(tmp_path):
    content = encoded(SMOOTH[:, :, 0], "PNG", {})
    (tmp_path / "x.png").write_bytes(content[:-40] + bytes(40))
    with pytest.raises(ValueError, match=r"x\.png: expected a readable"):
        stored_values(tmp_path / "x.png")


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Six images in one class, of which two are broken."""
    monkeypatch.setattr(
        "densekit.data.reading.file_check._marks_file", lambda folder: tmp_path / "memory" / "m"
    )
    (tmp_path / "a").mkdir()
    for number in range(6):
        content = encoded(NOISE, "JPEG", {})
        half = len(content) // 2 if number in (1, 4) else len(content)
        (tmp_path / "a" / f"{number}.jpg").write_bytes(content[:half])
    return ImageFolder(tmp_path, names=["a"])


def test_all_broken_files_are_found_and_right_ones_remembered(pictures, tmp_path, monkeypatch):
    read = []
    original = ImageFolder.read
    monkeypatch.setattr(ImageFolder, "read", lambda s, i: read.append(i) or original(s, i))
    assert list(broken_files(pictures)) == [1, 4]
    assert sorted(read) == list(range(6))
    read.clear()
    assert "4.jpg: expected a readable image" in broken_files(pictures)[4]
    assert sorted(read) == [1, 4]
    read.clear()
    os.utime(tmp_path / "a" / "2.jpg", (1, 1))
    (tmp_path / "a" / "1.jpg").write_bytes(encoded(NOISE, "JPEG", {}))
    assert list(broken_files(pictures)) == [4]
    assert sorted(read) == [1, 2, 4]
    assert not list((tmp_path / "a").glob("[!0-9]*"))  # nothing is written beside the data


def test_parts_and_repeats_are_looked_at_once(pictures):
    assert list(broken_files(Subset(pictures, [4, 5]))) == [0]
    assert list(broken_files(Repeat(Subset(pictures, [0, 1]), 2))) == [1, 3]


def test_a_memory_that_cannot_be_written_costs_nothing(pictures, tmp_path):
    (tmp_path / "memory").write_text("a file where a folder is needed")
    assert list(broken_files(pictures)) == [1, 4]


def test_sizes_and_masks_are_looked_at_too(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            Image.new("L", (5, 4), number % 2).save(tmp_path / folder / f"{number}.png")
    data = MaskFolder(tmp_path / "images", tmp_path / "masks", names=["no", "yes", "void"])
    assert not broken_files(data)
    Image.new("L", (5, 4), 7).save(tmp_path / "masks" / "2.png")
    Image.new("L", (9, 9)).save(tmp_path / "images" / "0.png")
    found = broken_files(data)
    assert list(found) == [0, 2]
    assert "9 x 9" in found[0]
    assert "got 7 (20 pixels)" in found[2]


class Counts(LightningModule):
    """Counts training images."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.images = 0

    def training_step(self, batches, _):
        self.images += len(batches["a"]["image"])
        return self.weight * 0.0

    def validation_step(self, batch, batch_idx, dataloader_idx=0): ...

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def fit(data):
    module = Counts()
    Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(module, data)
    return module.images


@pytest.mark.filterwarnings("ignore")
def test_a_run_stops_before_its_first_step_or_goes_without_them(pictures, caplog):
    source = {"a": Source(pictures, heads=["x"], batch_size=1)}
    with pytest.raises(
        ValueError,
        match=r"(?s)data\.a\.train: expected .* got 2 of 6 .*1\.jpg.*4\.jpg.*on_broken",
    ):
        fit(DataModule(source))
    with caplog.at_level(logging.WARNING, "densekit.data"):
        assert fit(DataModule(source, "skip")) == 4
    assert "expected readable images, got 2 of 6 broken" in caplog.text
    assert "left out (on_broken=skip)" in caplog.text


def test_evaluation_is_never_of_fewer_images(pictures):
    source = {"a": Source(Subset(pictures, [0]), val=pictures, heads=["x"])}
    data = DataModule(source, "skip")
    for stage in ("fit", "validate"):
        with pytest.raises(
            ValueError,
            match=r"(?s)data\.a\.val: expected readable images, got 2 of 6 .*1\.jpg.*4\.jpg",
        ):
            data.setup(stage)
    data.setup("test")
    DataModule(source, "unchecked").setup("fit")
    with pytest.raises(
        ValueError,
        match=r"on_broken: expected one of stop, skip, unchecked, got 'sikp'; did you mean 'skip'",
    ):
        DataModule(source, "sikp")
    with pytest.raises(ValueError, match=r"on_broken: expected one of stop, skip, .* got False"):
        DataModule(source, False)


def test_what_is_drawn_has_no_files():
    assert broken_files(Scenes(length=2, size=(64, 64))) == {}


def test_boxes_name_their_image(coco):
    arguments = coco([{}])
    path = arguments["root"] / "images" / "1.png"
    path.write_bytes(path.read_bytes()[:300])
    found = broken_files(CocoDetection(**arguments))
    assert list(found) == [1]
    assert found[1].startswith(str(path))


def test_files_without_a_header_are_found_with_the_others(tmp_path, coco, voc):
    """Nobody annotated their sizes, so the headers are read when the data set is built."""
    arguments = coco([{}], images=3)
    path = arguments["root"] / arguments["annotations"]
    path.write_text(path.read_text().replace('"height": 40, "width": 60', '"license": 0'))
    for name in ("1.png", "2.png"):
        (arguments["root"] / "images" / name).write_bytes(b"")
    assert list(broken_files(CocoDetection(**arguments))) == [1, 2]
    root = voc([("cat", (2, 2, 9, 9), 0)], [("cat", (2, 2, 9, 9), 0)])
    for file in (root / "Annotations").iterdir():
        file.write_text(file.read_text().replace("size>", "unsized>"))
    (root / "JPEGImages" / "im1.jpg").write_text("<html>404</html>")
    assert list(broken_files(VocDetection(root, "train"))) == [1]
    for folder in ("pictures", "masks"):
        (tmp_path / folder).mkdir()
        for number in range(3):
            Image.new("L", (5, 4), number % 2).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "pictures" / "1.png").write_bytes(b"")
    (tmp_path / "masks" / "2.png").write_bytes(b"")
    data = MaskFolder(tmp_path / "pictures", tmp_path / "masks", names=["no", "yes"])
    found = broken_files(data)
    assert "pictures/1.png" in found[1]
    assert "masks/2.png" in found[2]
