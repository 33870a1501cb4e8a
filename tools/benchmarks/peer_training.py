"""What the peers of our tables share: an experiment's data and recipe, and a loop by the clock.

A peer gets the same batches from the same loader, the same optimiser, the same shape of the
schedule and, unless it is said otherwise, the same precision. Its schedule runs by the share of the
minutes (or steps) that is over, so that it ends when they do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from densekit import compose
from densekit.app.options.table import Option, number, split_options, whole
from densekit.build import instantiate, metric_recipes
from densekit.data import Source
from densekit.model import DenseModel
from densekit.ops.precision import Call
from densekit.training import layer_calls, resolve_precision
from densekit.training.metric_set import MetricSet, build_metrics
from densekit.training.optim import parameter_groups

Step = Callable[[Any], Tensor]
"""A batch to its loss."""


@dataclass(frozen=True)
class Job:
    """An experiment as a peer needs it.

    Attributes:
        source: Its data.
        model: Ours, freshly built, to take settings from.
        info: See `DenseModel`.
        metrics: Those of the experiment.
        optimizer: Makes the optimiser of parameter groups.
        schedule: Factor of the learning rate by (done, total).
        bf16: Whether the experiment trains in bfloat16 on this CPU.
        minutes: To train for; None trains by steps.
        steps: To train for; None trains by minutes.
    """

    source: Source
    model: DenseModel
    info: Mapping[str, Any]
    metrics: MetricSet
    optimizer: Any
    schedule: Any
    bf16: bool
    minutes: float | None
    steps: int | None


OPTIONS = (
    Option("minutes", number(at_least=0), None, "time to train for"),
    Option("steps", whole(1), None, "steps to train for, in place of the minutes"),
)


def prepare(arguments: Sequence[str]) -> Job:
    """Composes `experiment=NAME minutes=M key=value ...`; `steps=N` in place of the minutes."""
    options, rest = split_options(arguments, OPTIONS)
    if (options["minutes"] is None) == (options["steps"] is None):
        raise SystemExit("one of minutes=M and steps=N is needed")
    sources, model, job = compose(*rest)
    source = next(iter(sources.values()))

    def calls() -> list[Call]:
        found: list[Call] = layer_calls(model, [source.image_size()])
        return found

    return Job(
        source=source,
        model=model,
        info=model.info,
        metrics=build_metrics(model, source.heads, metric_recipes(job)),
        optimizer=instantiate(job["optimizer"], "optimizer"),
        schedule=instantiate(job["schedule"], "schedule"),
        bf16="bf16" in resolve_precision(str(job["precision"]), "cpu", calls),
        minutes=options["minutes"],
        steps=options["steps"],
    )


def train(job: Job, model: nn.Module, step: Step) -> None:
    """Trains until the minutes, or the steps, are over; prints how many of both it was."""
    make = job.optimizer
    decay = make.keywords.get("weight_decay", 0.0)
    optimizer = make(parameter_groups(model, decay, make.keywords["lr"]))
    peaks = [group["lr"] for group in optimizer.param_groups]
    start, done = time.monotonic(), 0
    model.train()
    loader = job.source.train_loader()  # the only one: another would begin at epoch 0 again
    while True:
        for batch in loader:
            seconds = time.monotonic() - start
            over, total = (seconds, 60 * job.minutes) if job.minutes else (done, job.steps or 0)
            if over >= total:
                print(f"{done} steps in {seconds / 60:.1f} minutes, {_precision(job)}")
                return
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * job.schedule(over, total)
            with torch.autocast("cpu", torch.bfloat16, enabled=job.bf16):
                loss = step(batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            done += 1
            if done % 20 == 0:
                print(f"{seconds:6.0f} s  step {done}  loss {float(loss.detach()):.3f}", flush=True)


def print_metrics(metrics: Mapping[str, Any]) -> None:
    """Prints one metric per line."""
    for name, value in metrics.items():
        print(f"{name:<44}{float(value):.4f}")


def _precision(job: Job) -> str:
    return "bfloat16" if job.bf16 else "float32"
