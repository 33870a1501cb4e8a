"""Margins of pytorch-metric-learning and ours on the same embeddings and centres."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from densekit.app.studies.benchmark.pair import Options
from densekit.app.studies.benchmark.work import OURS, Row, Work
from densekit.losses import ArcFace, CosFace, MarginSoftmax

PEER = "pytorch-metric-learning"
EMBEDDING, SCALE = 512, 64.0
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4
"""Largest relative gaps of the losses, and of the gradients by their norm."""
MARGINS: Mapping[str, tuple[type[Any], str, float, float]] = {
    "arcface": (ArcFace, "ArcFaceLoss", 0.5, math.degrees(0.5)),
    "cosface": (CosFace, "CosFaceLoss", 0.35, 0.35),
}
"""Our class, the peer's, and the margin in the unit of each."""


def margin_work(options: Options) -> Work:
    """Loss of a batch of embeddings and its gradients.

    Raises:
        ImportError: Pytorch-metric-learning is not installed.
        RuntimeError: Losses or gradients differ.
    """
    name, device = str(options["work"]), options["device"]
    people, count = int(options["classes"]), int(options["batch"])
    torch.manual_seed(0)
    ours, theirs = margin_modules(name, people)
    ours, theirs = ours.to(device), theirs.to(device)
    rows = torch.randn(count, EMBEDDING, device=device)
    identity = torch.randint(people, (count,), device=device)
    valid, key = torch.ones_like(identity, dtype=torch.bool), torch.zeros_like(identity)
    steps = {
        PEER: _step(theirs, rows, lambda x: theirs(x, identity)),
        OURS: _step(ours, rows, lambda x: ours(x, identity, valid, key)["ce"]),
    }
    gap = check_steps(steps[PEER](), steps[OURS]())
    return Work(
        f"{type(ours.margin).__name__}: loss and gradients, {count} embeddings of {EMBEDDING},"
        f" {people} identities",
        f"losses within {gap:.1e} (relative), gradients within {GRADIENT_TOLERANCE}",
        [Row(who, "eager", "fp32", partial(steps.__getitem__, who)) for who in steps],
    )


def margin_modules(name: str, people: int) -> tuple[MarginSoftmax, Any]:
    """Our loss and the peer's with the same centres."""
    try:
        losses = importlib.import_module("pytorch_metric_learning.losses")
    except ModuleNotFoundError as error:
        raise ImportError(f"work={name} needs {PEER}: pip install {PEER}") from error
    margin, peer, value, theirs_value = MARGINS[name]
    ours = MarginSoftmax(people, EMBEDDING, margin(value, SCALE))
    theirs = getattr(losses, peer)(people, EMBEDDING, margin=theirs_value, scale=SCALE)
    theirs.W.data = ours.centres.data.T.contiguous()
    return ours, theirs


def check_steps(theirs: tuple[Tensor, Tensor], ours: tuple[Tensor, Tensor]) -> float:
    """Compares (loss, gradient); returns the relative gap of the losses.

    Raises:
        RuntimeError: They differ.
    """
    gap = float((ours[0] - theirs[0]).abs() / theirs[0].abs())
    turn = float((ours[1] - theirs[1]).norm() / theirs[1].norm())
    if not (gap <= LOSS_TOLERANCE and turn <= GRADIENT_TOLERANCE):
        raise RuntimeError(
            f"loss: expected {float(theirs[0]):.6g}, got {float(ours[0]):.6g}; gradients are"
            f" {turn:.1e} apart"
        )
    return gap


def _step(
    module: nn.Module, rows: Tensor, loss_of: Callable[[Tensor], Tensor]
) -> Callable[[], tuple[Tensor, Tensor]]:
    def run() -> tuple[Tensor, Tensor]:
        module.zero_grad()
        embeddings = rows.clone().requires_grad_()
        loss = loss_of(embeddings)
        loss.backward()
        assert embeddings.grad is not None
        return loss.detach(), embeddings.grad

    return run
