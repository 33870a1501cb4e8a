"""Sends pictures to the loggers that show some: TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from densekit.visualization.images import Picture


def log_picture(logger: Logger, name: str, picture: Picture, step: int) -> None:
    """Logs a picture; loggers of other kinds are left alone.

    Args:
        logger: Of a run.
        name: Such as `val/predictions`.
        picture: (H, W, 3).
        step: Optimiser step.
    """
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step=step)
    elif isinstance(logger, MLFlowLogger):
        client: Any = logger.experiment
        client.log_image(logger.run_id, picture, key=name.replace("/", "."), step=step)
