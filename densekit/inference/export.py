"""Exports a trained model with `torch.export`, as a program that runs without densekit.

    program = torch.export.load("model.pt2")
    predictions = program.module()(image, size)      # {"detection/boxes": ..., ...}

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densekit._files import replacing
from densekit.model import DenseModel
from densekit.types import Batch

INFO, CONFIG = "info.json", "config.yaml"
"""Files stored beside the program: the model's `info`, and the configuration that built it."""
SUFFIX = ".pt2"
MAX_FACTS = 64 << 20
"""Limit in bytes for either of them, unpacked."""


class PredictionsByName(nn.Module):
    """Wraps a model so that its predictions are one flat dict, `HEAD/KEY` to tensor.

    Args:
        model: In evaluation mode.
    """

    def __init__(self, model: DenseModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, size: Tensor) -> dict[str, Tensor]:
        """Returns the predictions of every head in the network's frame, see `Head.decode`.

        Args:
            image: (B, C, *S) float32, in the unit of the model's mean and std, zero beyond `size`.
            size: (B, D) int64.
        """
        predictions = self.model.predict(Batch(image=image, size=size))
        return {
            f"{head}/{key}": value
            for head, named in predictions.items()
            for key, value in named.items()
        }


def export_program(
    model: DenseModel, sides: Sequence[int], batch_size: int = 1
) -> torch.export.ExportedProgram:
    """Exports a model for images of one size; smaller ones are padded and passed with their `size`.

    The program is run once on noise and compared with the model.

    Args:
        model: On the CPU.
        sides: The D sizes of the images.
        batch_size: B.

    Raises:
        ValueError: `sides` is not one positive number per axis.
        RuntimeError: The outputs of the program differ from those of the model.
    """
    dims = model.spatial_dims
    if len(sides) != dims or min(sides) < 1:
        raise ValueError(f"size: expected {dims} sides of 1 or more, got {list(sides)}")
    module = PredictionsByName(model.eval())
    noise = torch.Generator().manual_seed(0)
    image = torch.rand((batch_size, len(model.info["mean"]), *sides), generator=noise)
    image = image * model.full_scale
    size = torch.tensor([list(sides)] * batch_size)
    with torch.no_grad():
        program = torch.export.export(module, (image, size), strict=False)
        expected, found = module(image, size), program.module()(image, size)
    for name, value in expected.items():
        if not torch.allclose(found[name].float(), value.float(), rtol=1e-4, atol=1e-4):
            off = float((found[name].float() - value.float()).abs().max())
            raise RuntimeError(
                f"export: expected the outputs of the model, got {name} off by up to {off:.2g}"
            )
    return program


def save_program(
    program: torch.export.ExportedProgram, file: Path, info: Mapping[str, Any], config: str
) -> None:
    """Writes a program together with its model's `info` and configuration.

    Args:
        program: See `export_program`.
        file: Name that ends in .pt2.
        info: `DenseModel.info`.
        config: YAML text.
    """
    with replacing(file) as part:
        torch.export.save(program, part, extra_files={INFO: json.dumps(dict(info)), CONFIG: config})


def program_facts(file: Path) -> tuple[dict[str, Any], str]:
    """Reads `info` and configuration of an exported program, without loading it.

    Raises:
        ValueError: The file was not exported by densekit.
    """
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            parts = {Path(part.filename).name: part for part in archive.infolist()}
            if max(parts[key].file_size for key in (INFO, CONFIG)) > MAX_FACTS:
                raise ValueError(
                    f"expected {INFO} and {CONFIG} of at most {MAX_FACTS >> 20} MiB, got more"
                )
            texts = [archive.read(parts[key]).decode() for key in (INFO, CONFIG)]
        info = json.loads(texts[0])
        if not isinstance(info, dict):
            raise ValueError(f"{INFO}: expected an object, got {type(info).__name__}")
    except KeyError as error:
        raise ValueError(
            f"{file}: expected a program exported by densekit, got one without {error}"
        ) from error
    except (ValueError, RecursionError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{file}: expected a program exported by densekit, got another file: {error}"
        ) from error
    return info, texts[1]
