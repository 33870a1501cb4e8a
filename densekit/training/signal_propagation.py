"""Measures forward signals and backward gradients through a network, on one batch.

Papers: Deep Residual Learning for Image Recognition, section 4.1; Characterizing signal propagation
to close the performance gap in unnormalized ResNets (Brock et al. 2021), section 3; Similarity of
Neural Network Representations Revisited (Kornblith et al. 2019), section 3.

B images, C channels, S the sizes of a map.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from densekit._files import write_json
from densekit.backbones.stages import Stage
from densekit.model import DenseModel
from densekit.training.sources import source_heads
from densekit.types import Batch

Signal = dict[str, list[float]]
"""Result of `measure_signal`: numbers from the first layer to the last."""


class SignalFile(Callback):
    """Writes `signal.json`: `measure_signal` at `start`, before the first step, and at `end`.

    Both use the first training batch of this process, from the first data set, and measure a copy
    of the network. With several processes the losses are those of all, the measurements those of
    the first.

    Args:
        path: The file; it is overwritten.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.signals: dict[str, Signal] = {}
        self._batch: Batch | None = None
        self._heads: tuple[str, ...] | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the first batch and measures the network before it has learned from it."""
        if self._batch is not None:
            return
        source, self._batch = next(iter(batch.items()))
        self._heads = source_heads(trainer, source)
        if trainer.global_step == 0:
            self._measure("start", pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures again and writes the file."""
        if self._batch is None:
            return
        self._measure("end", pl_module)
        if trainer.is_global_zero:
            write_json(self.path, self.signals)

    def state_dict(self) -> dict[str, Any]:
        """Returns the measurements, for a resumed run, which has no first step."""
        return {"signals": self.signals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues with the measurements of the resumed run."""
        self.signals = state_dict["signals"]

    def _measure(self, when: str, lit: Any) -> None:
        assert self._batch is not None
        self.signals[when] = measure_signal(lit.model, self._batch, self._heads)


def measure_signal(model: DenseModel, batch: Batch, heads: Iterable[str] | None = None) -> Signal:
    """Measures every block and every convolution of a backbone, in training mode.

    Args:
        model: Its backbone has stages of blocks. It is not changed, norm statistics included.
        batch: With the targets of the heads.
        heads: The heads whose losses are summed; all by default.

    Returns:
        One value per block: `squared_mean` and `variance` of its output, see `channel_moments`, and
        `similarity` of the output to the normalised image, see `similarity`. One value per
        trainable convolution: `gradient`, the L2 norm of the loss's gradient by its weight. The
        order is that of the network's definition.

    Raises:
        ValueError: The backbone has no such stages.
    """
    probe = copy.deepcopy(model).train()
    stages = [module for module in probe.backbone.modules() if isinstance(module, Stage)]
    if not stages:
        raise ValueError(
            "signal: expected a backbone with stages of blocks (ResNet, CifarResNet, IResNet), got"
            f" {type(model.backbone).__name__}"
        )
    signal: Signal = {"squared_mean": [], "variance": [], "similarity": []}
    image = probe.normalise(batch["image"], batch["size"])

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        squared_mean, variance = channel_moments(output.detach())
        signal["squared_mean"].append(squared_mean)
        signal["variance"].append(variance)
        signal["similarity"].append(similarity(image, output.detach()))

    hooks = [block.register_forward_hook(note) for stage in stages for block in stage]
    terms = probe.loss(batch, heads=heads).values()
    for hook in hooks:  # a checkpointed block runs again in backward
        hook.remove()
    weights = [
        module.weight
        for module in probe.backbone.modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) and module.weight.requires_grad
    ]
    gradients = torch.autograd.grad(torch.stack([*terms]).sum(), weights)
    signal["gradient"] = [float(gradient.norm()) for gradient in gradients]
    return signal


def channel_moments(x: Tensor) -> tuple[float, float]:
    """Squared mean and variance of a channel over images and positions, averaged over channels.

    Args:
        x: (B, C, *S).
    """
    flat = x.transpose(0, 1).flatten(1).double()  # (C, B S)
    return float(flat.mean(1).square().mean()), float(flat.var(1, correction=0).mean())


def similarity(x: Tensor, y: Tensor) -> float:
    """Similarity of two layers' representations of a batch: linear CKA, 0 to 1.

    1 if one is the other rotated, shifted or scaled as a whole; NaN if a layer's output is the same
    for all images.

    Args:
        x: (B, ...) of one layer.
        y: (B, ...) of another, of any shape.
    """
    first, second = _products(x), _products(y)  # (B, B)
    return float((first * second).sum() / (first.norm() * second.norm()))


def _products(x: Tensor) -> Tensor:
    """(B, B) inner products of a layer's outputs, centred over the batch."""
    flat = x.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat @ flat.T
