"""`format=onnx`: a model and its post-processing as an ONNX file, for any runtime.

session = onnxruntime.InferenceSession("model.onnx")
outputs = session.run(None, {"image": image, "size": size})   # in the order of get_outputs()
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from densekit._extras import need
from densekit.inference.export.base import Example, Format, Program, traced
from densekit.inference.export.digest import DIGEST, check_digest, digest
from densekit.inference.export.onnx_operators import OPSET, translations
from densekit.inference.fold import folded
from densekit.model import DenseModel
from densekit.ops.portable import onnx_formulation

PURPOSE, EXTRA = "format=onnx", "export"


def export_onnx(model: DenseModel, example: Example, file: Path, precision: str = "fp32") -> None:
    """Writes a model as an ONNX file; suppression and RoI pooling are ONNX's own operators.

    Args:
        model: On the CPU.
        example: The shapes. Detectors take a dynamic batch; their anchors and numbers of candidates
            follow from the sides, which stay fixed.
        file: Name that ends in .onnx.
        precision: "fp32".

    Raises:
        ImportError: A package of the extra `export` is not installed.
    """
    need("onnxscript", PURPOSE, EXTRA)
    with onnx_formulation():
        program = traced(folded(model), example)
    names = list(program.call_spec.out_spec.context)
    with _quiet():
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            opset_version=OPSET,
            input_names=example.inputs,
            output_names=names,
            custom_translation_table=translations(),
            verbose=False,
        )
    assert exported is not None
    exported.save(file)


def open_onnx(file: Path) -> Program:
    """Loads a file that `export_onnx` wrote into ONNX Runtime, on the CPU.

    Raises:
        ValueError: The file is no ONNX file, or damaged.
    """
    need("onnxruntime", PURPOSE, EXTRA)
    try:
        opened = session(file)
        is_sealed = DIGEST in opened.get_modelmeta().custom_metadata_map
    except Exception as error:  # of many classes of the runtime; they name no file
        raise _foreign(file, str(error)) from error
    if is_sealed:  # an engine's file is not: its cache is
        read_metadata(file)
    return run_session(opened)


def session(file: Path) -> Any:
    """Returns an `onnxruntime.InferenceSession` of a file, on the CPU."""
    runtime = need("onnxruntime", PURPOSE, EXTRA)
    settings = runtime.SessionOptions()
    settings.log_severity_level = 3  # errors
    return runtime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])


def run_session(session: Any) -> Program:
    """Lets a session be called as a program."""
    names = [output.name for output in session.get_outputs()]
    inputs = [one.name for one in session.get_inputs()]

    def run(*arrays: NDArray[Any]) -> dict[str, NDArray[Any]]:
        found = session.run(names, dict(zip(inputs, arrays, strict=True)))
        return dict(zip(names, found, strict=True))

    return run


def read_metadata(file: Path) -> dict[str, str]:
    """Reads the texts stored in an ONNX file.

    Raises:
        ValueError: The file is no ONNX file, or damaged.
    """
    onnx = need("onnx", PURPOSE, EXTRA)
    try:
        model = onnx.load(file, load_external_data=False)
    except (OSError, ValueError) as error:
        raise _foreign(file, str(error)) from error
    except Exception as error:  # protobuf's DecodeError, whose module is not always the same
        raise _foreign(file, str(error)) from error
    if not model.graph.node:  # what protobuf reads from an empty file
        raise _foreign(file, "it has no operators")
    texts = _without_texts(model)
    if not all(isinstance(text, str) for pair in texts.items() for text in pair):
        raise _foreign(file, "its texts are not UTF-8")  # protobuf returns such texts as bytes
    if DIGEST in texts:
        check_digest(file, texts[DIGEST], digest(_content(model), texts))
    return texts


def _foreign(file: Path, reason: str) -> ValueError:
    return ValueError(f"{file}: expected a file exported by densekit, got another one: {reason}")


def write_metadata(file: Path, texts: Mapping[str, str]) -> None:
    """Stores texts in an ONNX file, beside those that it has."""
    onnx = need("onnx", PURPOSE, EXTRA)
    model = onnx.load(file, load_external_data=False)
    texts = {**_without_texts(model), **texts}
    onnx.helper.set_model_props(model, {**texts, DIGEST: digest(_content(model), texts)})
    onnx.save(model, file)


def _without_texts(model: Any) -> dict[str, str]:
    """Takes the texts out of a model."""
    texts = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    return texts


def _content(model: Any) -> bytes:
    content: bytes = model.SerializeToString(deterministic=True)
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the exporter's optimiser says of every node that it leaves alone."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir", "torch.onnx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


FORMAT = Format(
    name="onnx",
    suffix=".onnx",
    precisions=("fp32", "int8"),
    dynamic=("batch", "size"),
    export=export_onnx,
    open=open_onnx,
    read_facts=read_metadata,
    write_facts=write_metadata,
    from_onnx=shutil.copyfile,
)
