"""A network of a peer and ours with the same weights: the rows of both, and the proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import nn

from densekit.app.studies.benchmark.agreement import agreement
from densekit.app.studies.benchmark.engines import losses_of, predictor_of
from densekit.app.studies.benchmark.work import OURS, Cost, Row
from densekit.model import DenseModel
from densekit.types import Batch, Predictions

LOSS_TOLERANCE = 1e-4
PEER_ENGINES = ("eager", "inductor")
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""What a peer computes in: PyTorch's own precisions, under autocast."""

Options = Mapping[str, Any]
Call = Callable[..., Any]


@dataclass(frozen=True)
class Pair:
    """Two equal models and what is asked of them.

    Attributes:
        peer: Name of the peer.
        theirs: The peer's model.
        ours: Ours with its weights.
        batch: What ours is given.
        their_losses: From the peer's model, perhaps compiled, its losses under our names.
        their_predictions: From the peer's model its predictions in its own form.
    """

    peer: str
    theirs: nn.Module
    ours: DenseModel
    batch: Batch
    their_losses: Callable[[Call], Mapping[str, Any]]
    their_predictions: Callable[[Call], Any]


def check_losses(pair: Pair) -> float:
    """Returns the largest relative gap between the losses of both.

    Raises:
        RuntimeError: They differ: timing unequal models means nothing.
    """
    pair.theirs.train()
    pair.ours.train()
    with torch.no_grad():
        theirs, ours = pair.their_losses(pair.theirs), pair.ours.loss(pair.batch)
    gap = max(
        abs(float(ours[name]) - float(theirs[name])) / abs(float(theirs[name])) for name in theirs
    )
    if not gap <= LOSS_TOLERANCE:
        raise RuntimeError(f"losses: expected the peer's {dict(theirs)}, got {dict(ours)}")
    return gap


def rows_of(pair: Pair, options: Options) -> list[Row]:
    """The peer's rows, then ours, one per engine and precision."""
    theirs = their_rows(pair, options)
    return [*theirs, *our_rows(pair.ours, pair.batch, options)]


def their_rows(pair: Pair, options: Options) -> list[Row]:
    """The peer's rows, eager and compiled, in PyTorch's own precisions."""
    trains = options["step"] == "train"
    ask = pair.their_losses if trains else pair.their_predictions

    def make(engine: str, precision: str) -> Callable[[], Any]:
        model: Call = torch.compile(pair.theirs) if engine == "inductor" else pair.theirs
        context = autocast(options["device"], precision)
        if trains:
            return _training(pair.theirs, partial(ask, model), context)
        return _predicting(pair.theirs, partial(ask, model), context)

    cost = cost_of(pair.theirs, make("eager", "fp32"))
    return [
        Row(pair.peer, engine, precision, partial(make, engine, precision), cost, trains=trains)
        for engine in options["engine"]
        for precision in options["precision"]
        if engine in PEER_ENGINES and precision in TYPES
    ]


def our_rows(
    model: DenseModel,
    batch: Batch,
    options: Options,
    predict: Callable[[DenseModel], dict[str, Predictions]] | None = None,
    heads: Iterable[str] | None = None,
) -> list[Row]:
    """Our rows, one per engine and precision.

    Args:
        model: Our network.
        batch: On the device, with targets for a training step.
        options: `step`, `engine`, `precision` and `device`.
        predict: How a model predicts the batch, `model.predict(batch)` by default.
        heads: The heads that the batch trains; all by default.
    """
    predict = predict or (lambda one: one.predict(batch))

    def make(engine: str, precision: str) -> Callable[[], Any]:
        if trains:
            losses = losses_of(engine, precision)
            context = autocast(options["device"], precision)
            return _training(model, lambda: losses(model, batch, heads=heads), context)
        return _predicting(model, partial(predict, predictor_of(model, engine, precision, batch)))

    @cache
    def expected() -> dict[str, Predictions]:
        found: dict[str, Predictions] = make("eager", "fp32")()
        return found

    def agrees(found: Any) -> float:
        return agreement(expected(), found)

    trains = options["step"] == "train"
    compared = None if trains else agrees
    cost = cost_of(model, make("eager", "fp32"))
    return [
        Row(OURS, engine, precision, partial(make, engine, precision), cost, compared, trains)
        for engine in options["engine"]
        for precision in options["precision"]
    ]


def predictions_of(pair: Pair) -> tuple[Any, Predictions]:
    """Both sides' predictions of the pair's batch, in evaluation mode."""
    pair.theirs.eval()
    pair.ours.eval()
    with torch.no_grad():
        (ours,) = pair.ours.predict(pair.batch).values()
        return pair.their_predictions(pair.theirs), ours


def cost_of(model: nn.Module, step: Callable[[], object]) -> Cost:
    """Counts the parameters of a network, and the operations of an eager step."""
    from torch.utils.flop_counter import FlopCounterMode

    step()  # the first one also prepares the network, which computes too
    with FlopCounterMode(display=False) as counter:
        step()
    model.zero_grad()
    return Cost(sum(p.numel() for p in model.parameters()), int(counter.get_total_flops()))


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """The context in which PyTorch computes in a precision."""
    dtype = TYPES[precision]
    enabled = dtype is not torch.float32
    return torch.autocast(device.split(":")[0], dtype if enabled else None, enabled=enabled)


def _training(
    model: nn.Module, losses: Callable[[], Mapping[str, Any]], context: AbstractContextManager[Any]
) -> Callable[[], None]:
    """One training step without optimiser."""

    def run() -> None:
        model.train().zero_grad()
        with context:
            total: Any = sum(losses().values())
        total.backward()

    return run


def _predicting(
    model: nn.Module,
    predict: Callable[[], Any],
    context: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 - without a state
) -> Callable[[], Any]:
    @torch.no_grad()  # inference mode would hide the products from the counter of operations
    def run() -> Any:
        model.eval()
        with context:
            return predict()

    return run


def as_text(sides: Sequence[int]) -> str:
    """`320x448`."""
    return "x".join(map(str, sides))
