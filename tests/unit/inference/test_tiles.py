"""Tiles: equal to the whole picture, whatever it is stored in, in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from densekit import DenseModel
from densekit.backbones import ResNet
from densekit.heads import UNet
from densekit.inference import predict_tiles
from densekit.inference.engine import with_engine
from densekit.inference.engines.compiled import Compiled
from densekit.inference.receptive import receptive_margin, stride_of
from densekit.inference.tile_source import TileSource
from densekit.inference.tiles import tile_logits
from tests.unit.inference.programs import Compiler
from tests.unit.inference.segmenter import pixels, tiny_segmenter
from tests.unit.tiny import tiny_detector

PROJECT = Path(__file__).resolve().parents[3]
WRITERS: dict[str, Any] = {
    "tiled": {"tile": (32, 48), "compression": "zlib"},
    "tiled_raw": {"tile": (32, 32)},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "raw": {},
}


@torch.inference_mode()
def whole_logits(model: DenseModel, picture: NDArray[Any]) -> Tensor:
    """(K, H, W) of the picture in one pass."""
    size = torch.tensor([picture.shape[:2]])
    image = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy())
    (head,) = model.predict({"image": image, "size": size}).values()
    logits = next(iter(head.values()))
    return logits[0, :, : picture.shape[0], : picture.shape[1]]


def picture_of(channels: int, height: int, width: int) -> NDArray[np.uint8]:
    return pixels(channels, height, width).permute(1, 2, 0).numpy().copy()


def stored(path: Path, picture: NDArray[Any], kind: str) -> Path:
    if kind == "npy":
        np.save(path.with_suffix(".npy"), picture)
        return path.with_suffix(".npy")
    photometric = "rgb" if picture.shape[2] == 3 else "minisblack"
    picture = picture if picture.shape[2] > 1 else picture[..., 0]
    tifffile.imwrite(path, picture, photometric=photometric, **WRITERS[kind])
    return path


@pytest.mark.parametrize("kind", [*WRITERS, "npy"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_window_is_read(kind: str, channels: int, tmp_path: Path) -> None:
    picture = picture_of(channels, 90, 131)
    source = TileSource(stored(tmp_path / "a.tif", picture, kind))
    assert source.shape == picture.shape
    for top, bottom, left, right in [(0, 90, 0, 131), (5, 6, 130, 131), (31, 65, 40, 97)]:
        found = source.window((slice(top, bottom), slice(left, right)))
        np.testing.assert_array_equal(found, picture[top:bottom, left:right])
    small, step = source.thumbnail(50)
    np.testing.assert_array_equal(small, picture[::3, ::3])
    assert step == 3


@pytest.mark.parametrize("depth", [0, 2, 4])
@torch.inference_mode()
def test_logits_equal_those_of_the_whole_picture(depth: int, tmp_path: Path) -> None:
    model = tiny_segmenter(depth=depth, channels=3)
    picture = picture_of(3, 333, 270)  # no multiples of tile or stride
    source = TileSource(stored(tmp_path / "a.tif", picture, "tiled"))
    expected, margin = whole_logits(model, picture), receptive_margin(model)
    assert margin is not None
    seen = torch.zeros(333, 270)
    for box, found in tile_logits(model, source, 96, margin):
        logits = found["segmentation"][1]
        torch.testing.assert_close(logits, expected[(slice(None), *box)], rtol=0, atol=1e-5)
        seen[box] += 1
    assert (seen == 1).all()
    if depth:  # and a smaller margin is too small: the measured one is needed
        less = tile_logits(model, source, 96, margin - stride_of(model))
        worst = max(
            float((found["segmentation"][1] - expected[(slice(None), *box)]).abs().max())
            for box, found in less
        )
        assert worst > 1e-4


@torch.inference_mode()
def test_an_engine_needs_few_programs_for_tiles(tmp_path: Path) -> None:
    model, picture = tiny_segmenter(channels=3), picture_of(3, 333, 270)
    source = TileSource(stored(tmp_path / "a.tif", picture, "tiled"))
    compiler = Compiler(model)
    fast = with_engine(model, Compiled("fast", model, "fp32", compiler))
    expected, margin = whole_logits(model, picture), receptive_margin(fast)
    assert margin is not None
    assert compiler.shapes == []  # the receptive field is that of the network
    for box, found in tile_logits(fast, source, 48, margin):
        logits = found["segmentation"][1]
        torch.testing.assert_close(logits, expected[(slice(None), *box)], rtol=0, atol=1e-5)
    assert compiler.shapes == [(1, 64, 64)]  # inside and at the borders: all are padded to it


def test_the_written_mask_is_that_of_the_whole_picture(tmp_path: Path) -> None:
    model, picture = tiny_segmenter(channels=3), picture_of(3, 200, 150)
    source = stored(tmp_path / "a.tif", picture, "tiled")
    assert predict_tiles(model, source, tmp_path / "m.tif", tile=50) == (64, 8)
    expected = whole_logits(model, picture).argmax(0).numpy()
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        page = file.pages.first
        assert page.is_tiled
        assert page.colormap is not None
        np.testing.assert_array_equal(page.asarray(), expected)
    assert len(np.unique(expected)) > 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "m.tif"]


def test_masks_hold_the_values_of_the_data_set(tmp_path: Path) -> None:
    model, picture = tiny_segmenter(channels=3), picture_of(3, 100, 90)
    source, values = stored(tmp_path / "a.tif", picture, "tiled"), [0, 7, 250]
    predict_tiles(model, source, tmp_path / "m.tif", tile=64, values=values)
    expected = np.array(values)[whole_logits(model, picture).argmax(0).numpy()]
    with tifffile.TiffFile(tmp_path / "m.tif") as file:
        np.testing.assert_array_equal(file.pages.first.asarray(), expected)
        colours = file.pages.first.colormap
    assert colours is not None
    assert colours[:, values[1:]].any(0).all()
    assert not colours[:, 1].any()


def test_unet_of_a_resnet_that_ends_at_stride_2(tmp_path: Path) -> None:
    unet = partial(UNet, num_classes=3, depth=2, finest=1, decoder_channels=(8,))
    torch.manual_seed(0)
    model = DenseModel(ResNet(18, width=8), {"segmentation": unet}).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    picture = picture_of(3, 256, 320)
    source = TileSource(stored(tmp_path / "a.tif", picture, "tiled"))
    expected, margin = whole_logits(model, picture), receptive_margin(model)
    assert margin is not None
    assert margin < 100  # the tiles see less than the picture
    for box, found in tile_logits(model, source, 64, margin):
        logits = found["segmentation"][1]
        torch.testing.assert_close(logits, expected[(slice(None), *box)], rtol=1e-5, atol=1e-5)


def test_tile_that_was_never_written_is_empty(tmp_path: Path) -> None:
    tiles = [np.full((32, 32), 9, np.uint8), None, None, np.full((32, 32), 5, np.uint8)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(iter(tiles), shape=(64, 64), dtype=np.uint8, tile=(32, 32), compression="zlib")
    found = TileSource(tmp_path / "a.tif").window((slice(0, 64), slice(0, 64)))[..., 0]
    expected = np.zeros((64, 64), np.uint8)
    expected[:32, :32], expected[32:, 32:] = 9, 5
    np.testing.assert_array_equal(found, expected)


def test_damaged_tile_names_the_file(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.tif", picture_of(1, 64, 96), "tiled")
    with tifffile.TiffFile(source) as file:
        offset = file.pages.first.dataoffsets[0]
    content = bytearray(source.read_bytes())
    content[offset : offset + 4] = b"\0\0\0\0"
    source.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif: expected tiles .* got an error at tile 0"):
        TileSource(source).window((slice(0, 8), slice(0, 8)))


def test_multilabel_classes_are_channels(tmp_path: Path) -> None:
    model, picture = tiny_segmenter(multilabel=True), picture_of(1, 100, 90)
    predict_tiles(model, stored(tmp_path / "a.tif", picture, "tiled"), tmp_path / "m.tif", tile=64)
    expected = (whole_logits(model, picture) > 0).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "m.tif"), expected)


class Everywhere(nn.Module):
    """Adds the mean of the whole picture, as image pooling does."""

    def forward(self, x: Tensor) -> Tensor:
        return x + x.mean((2, 3), keepdim=True)


def test_a_network_that_looks_everywhere_is_refused(tmp_path: Path) -> None:
    model, picture = tiny_segmenter(), picture_of(1, 100, 90)
    head: Any = model.heads["segmentation"]
    head.last = nn.Sequential(Everywhere(), head.last)
    assert receptive_margin(model) is None
    source = stored(tmp_path / "a.tif", picture, "tiled")
    with pytest.raises(
        ValueError, match="margin: expected a network with a limited receptive field"
    ):
        predict_tiles(model, source, tmp_path / "m.tif")
    predict_tiles(model, source, tmp_path / "m.tif", margin=16)  # said to be accepted


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (tiny_segmenter(dims=3), "got one of volumes"),
        (tiny_segmenter(resize={"min_size": 8, "max_size": 9}), "info.resize"),
        (tiny_segmenter(intensity={"kind": "zscore"}), "got 'zscore', which needs the statistics"),
        (tiny_segmenter(channels=2), "expected 2 channels, got 1"),
    ],
)
def test_models_that_tiles_cannot_serve(model: DenseModel, message: str, tmp_path: Path) -> None:
    source = stored(tmp_path / "a.tif", picture_of(1, 20, 20), "tiled")
    with pytest.raises(ValueError, match=f"a.tif.*{message}"):
        predict_tiles(model, source, tmp_path / "m.tif")


def test_pictures_that_cannot_be_tiled(tmp_path: Path) -> None:
    model = tiny_segmenter()
    np.save(tmp_path / "deep.npy", np.zeros((20, 20), np.uint16))
    tifffile.imwrite(
        tmp_path / "stack.tif", np.zeros((3, 20, 20), np.uint8), photometric="minisblack"
    )
    (tmp_path / "broken.tif").write_bytes(b"II")
    (tmp_path / "a.png").write_bytes(b"")
    for name, message in {
        "deep.npy": "expected uint8, as in training, got uint16",
        "stack.tif": "3 pages",
        "broken.tif": "expected a TIFF",
        "a.png": r"to read tiles from, got '\.png'",
    }.items():
        with pytest.raises(ValueError, match=f"{name}.*{message}"):
            predict_tiles(model, tmp_path / name, tmp_path / "m.tif")
    source = stored(tmp_path / "a.tif", picture_of(1, 20, 20), "tiled")
    with pytest.raises(ValueError, match="head: expected one of segmentation, got 'organs'"):
        predict_tiles(model, source, tmp_path / "m.tif", head="organs")
    with pytest.raises(ValueError, match=r"got \['boxes'.* from heads\.detection"):
        predict_tiles(tiny_detector(), stored(tmp_path / "b.tif", picture_of(3, 9, 9), "raw"), "x")


def test_memory_does_not_grow_with_the_picture(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.unit.inference.tile_memory", "4000", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout.splitlines()[-1])
    # Decoded tiles are kept up to 64 MB; the logits of the whole picture alone would be 192 MB.
    assert measured["after"] - measured["before"] < 110, measured
