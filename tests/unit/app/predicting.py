"""`densekit predict` with a tiny segmentation network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from densekit import DenseModel
from densekit.app.cli import main
from densekit.artifact import save_artifact


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
