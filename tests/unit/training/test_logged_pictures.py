"""Pictures in loggers that show some."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger

from densekit.training.guarded_logger import guarded
from densekit.training.logged_pictures import log_picture

PICTURE = np.zeros((4, 6, 3), np.uint8)


def test_weights_and_biases_and_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Wandb(WandbLogger):
        def __init__(self) -> None:
            pass

        def log_image(self, key: str, images: list[Any], **more: Any) -> None:  # type: ignore[override]
            calls.append((key, len(images), more))

    class Client:
        def log_image(self, run: str, image: Any, **more: Any) -> None:
            calls.append((run, image.shape, more))

    class Mlflow(MLFlowLogger):
        run_id = "7"
        experiment = Client()  # type: ignore[assignment]

        def __init__(self) -> None:
            pass

    for logger in (Wandb(), Mlflow()):
        log_picture(logger, "val/predictions", PICTURE, 3)
    assert calls == [
        ("val/predictions", 1, {"step": 3}),
        ("7", (4, 6, 3), {"key": "val.predictions", "step": 3}),
    ]


def test_others_are_left_alone_and_a_failure_drops_the_logger(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_picture(CSVLogger(tmp_path), "val/predictions", PICTURE, 3)
    logger: Any = guarded(TensorBoardLogger(tmp_path))
    monkeypatch.setattr(logger.experiment, "add_image", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.WARNING):
        logger.log_picture("val/predictions", PICTURE, 3)
        logger.log_picture("val/predictions", PICTURE, 3)
    assert caplog.text.count("turned off") == 1
