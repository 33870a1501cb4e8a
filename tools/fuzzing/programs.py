"""Exported programs, the cache of engines and a user's own configuration: how they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from .form import Format

TEXTS = {
    "info.json": '{"heads": {"segmentation": {"names": ["a", "b"]}}}',
    "shapes.json": '{"sides": [32, 32]}',
    "parity.json": '{"worst": 1e-6}',
    "config.yaml": "heads: {}\n",
}
WEIGHTS = np.arange(1, 65, dtype=np.float32)
EXPERIMENT = """# @package _global_
defaults:
  - override /data: mask_folder
  - override /head: unet
  - override /neck: none

backbone: {width: 8, stem: half}
heads:
  segmentation:
    decoder_channels: [8, 8, 8, 8, 8]
    losses:
      ce: {_target_: densekit.losses.PixelCrossEntropy, label_smoothing: 0.1}
optimizer: {lr: 2.0e-3}
trainer: {max_epochs: 3, precision: 32-true}
vars: {rate: 0.25}
resize: {min_size: 64, max_size: 96}
expected: {val/segmentation/mIoU: {value: 0.5, tolerance: 0.1}}
"""


def _onnx(file: Path) -> None:
    import onnx

    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [make.make_tensor_value_info(name, kind, [64]) for name in ("x", "y")]
    weights = onnx.numpy_helper.from_array(WEIGHTS, "w")
    graph = make.make_graph(
        [make.make_node("Add", ["x", "w"], ["y"])], "tiny", [ends[0]], [ends[1]], [weights]
    )
    opset = [make.make_opsetid("", 20)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), file)


def _openvino(file: Path) -> None:
    from importlib import import_module

    openvino: Any = import_module("openvino")
    opset13: Any = import_module("openvino.opset13")
    given = opset13.parameter([64], np.float32, "x")
    model = openvino.Model([opset13.add(given, opset13.constant(WEIGHTS))], [given])
    openvino.save_model(model, file, compress_to_fp16=False)


def _torch_export(file: Path) -> None:
    import torch

    module: Any = torch.nn.Linear(8, 8)
    torch.export.save(torch.export.export(module, (torch.zeros(1, 8),)), file)


MAKERS: dict[str, Callable[[Path], None]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "torch_export": _torch_export,
}


@lru_cache
def _content(name: str) -> dict[str, bytes]:
    """The files of a tiny program in a format, with densekit's texts in them."""
    from densekit.inference.export.base import CONFIG, INFO, PARITY, SHAPES
    from densekit.inference.export.formats import format_of

    form = format_of(name)
    texts = dict(zip((INFO, SHAPES, PARITY, CONFIG), TEXTS.values(), strict=True))
    with TemporaryDirectory() as made:
        file = Path(made, f"a{form.suffix}")
        MAKERS[name](file)
        form.write_facts(file, {"precision_hint": "f32"})
        form.write_facts(file, texts)
        return {path.name: path.read_bytes() for path in Path(made).iterdir()}


def write_program(name: str, changed: str, folder: Path) -> Path:
    """Writes a program; returns its file of the given suffix."""
    for own, content in _content(name).items():
        (folder / own).write_bytes(content)
    return folder / f"a{changed}"


def read_program(name: str, folder: Path) -> Any:
    """What the file says of itself, and whether it can be opened."""
    from densekit.inference.export.formats import facts_of, format_of

    form = format_of(name)
    facts = facts_of(folder / f"a{form.suffix}")
    form.open(folder / f"a{form.suffix}")
    return [facts.info, facts.config, facts.shapes, facts.parity]


def _entry(folder: Path) -> Path:
    """The folder of a cached engine; built anew if it is not what this user has written."""
    from densekit.inference.engines.cache import Cache

    cache = Cache(folder / "a.ckpt.engines", {"model": "1"}, b"secret")
    write = partial(_write_engine, WEIGHTS.tobytes())
    return cache.kept("onnxruntime-fp32", {"onnxruntime": "1"}, write)


def _write_engine(content: bytes, folder: Path) -> None:
    (folder / "program.onnx").write_bytes(content)


def write_engine(changed: str, folder: Path) -> Path:
    """Writes a cache with an engine; returns one of its files."""
    return _entry(folder) / changed


def read_engine(folder: Path) -> bytes:
    """The engine that would be loaded."""
    return (_entry(folder) / "program.onnx").read_bytes()


def write_experiment(folder: Path) -> Path:
    """Writes a user's own experiment."""
    file = folder / "conf" / "experiment" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(EXPERIMENT)
    return file


def read_experiment(folder: Path) -> Any:
    """Composes it, as `densekit train experiment=mine` in that folder does before any work."""
    from densekit.app.config.compose import compose
    from densekit.app.config.overrides import parse

    before = Path.cwd()
    os.chdir(folder)
    try:
        return str(compose(parse(["experiment=mine"])).cfg)
    finally:
        os.chdir(before)


def _program(name: str, changed: str) -> Format:
    return Format(
        partial(write_program, name, changed),
        partial(read_program, name),
        is_exact=True,
    )


PROGRAMS: dict[str, Format] = {
    "onnx": _program("onnx", ".onnx"),
    "openvino_xml": _program("openvino", ".xml"),
    "openvino_bin": _program("openvino", ".bin"),
    "torch_export": _program("torch_export", ".pt2"),
    "engine": Format(partial(write_engine, "program.onnx"), read_engine, is_exact=True),
    "engine_key": Format(
        partial(write_engine, "key.json"),
        read_engine,
        is_text=True,
        is_exact=True,
    ),
    "experiment": Format(write_experiment, read_experiment, is_text=True, is_named=False),
}
