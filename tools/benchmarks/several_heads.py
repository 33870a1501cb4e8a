"""One model with several heads against one model per head: seconds of a prediction and of a step.

The models of one head are cut from the one model, so their weights, and as is proven first their
predictions, are the same. All rows are timed in turn, in one process, on one batch of the test
split and one of training; a step is forward, losses, backward and the optimiser.

    python tools/benchmarks/several_heads.py experiment=three_heads checkpoint=CHECKPOINT rounds=10

Without a checkpoint the weights are random; a detector then finds more to suppress.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from densekit import compose
from densekit.app.options.table import Option, split_options, whole
from densekit.app.studies.benchmark.timing import interleaved, seconds_of
from densekit.build import build_model, instantiate
from densekit.model import DenseModel
from densekit.training.optim import parameter_groups

ROUNDS = Option("rounds", whole(1), 10, "timed rounds")


def channels_last(model: DenseModel) -> DenseModel:
    """A model in the memory format that convolutions are fastest in."""
    return model.to(memory_format=torch.channels_last)


def alone(whole: DenseModel, head: str, cfg: Mapping[str, Any]) -> DenseModel:
    """The model of one head, with the weights it has in the whole."""
    heads = {head: cfg["heads"][head]}
    model = channels_last(build_model({**cfg, "heads": heads}, whole.info))
    weights = whole.state_dict()
    model.load_state_dict({name: weights[name] for name in model.state_dict()})
    return model


def check_equal(whole: DenseModel, single: Mapping[str, DenseModel], batch: Any) -> None:
    """Compares the predictions.

    Raises:
        RuntimeError: Some differ.
    """
    whole.eval()
    with torch.inference_mode():
        together = whole.predict(batch)
        for head, model in single.items():
            for name, value in model.eval().predict(batch)[head].items():
                if not torch.equal(value, together[head][name]):
                    raise RuntimeError(f"{head}: {name} differs from the whole model's")


def predicting(model: DenseModel, batch: Any) -> Callable[[], object]:
    """A prediction."""

    @torch.inference_mode()
    def run() -> None:
        model.eval().predict(batch)

    return run


def training(model: DenseModel, batch: Any, optimizer: Any) -> Callable[[], object]:
    """A step."""
    settings = optimizer.keywords
    update = optimizer(parameter_groups(model, settings.get("weight_decay", 0.0), settings["lr"]))

    def run() -> None:
        update.zero_grad()
        torch.stack(list(model.train().loss(batch).values())).sum().backward()
        update.step()

    return run


def main(arguments: list[str]) -> None:
    """Prints medians and their ratio to the sum of the single models."""
    options, words = split_options(arguments, [ROUNDS])
    sources, model, job = compose(*words)
    source, whole = next(iter(sources.values())), channels_last(model)
    single = {head: alone(whole, head, job) for head in job["heads"]}
    models = {"together": whole, **single}
    test, train = next(iter(source.eval_loader("test"))), next(iter(source.train_loader()))
    check_equal(whole, single, test)
    make = instantiate(job["optimizer"], "optimizer")
    for what, rows in (
        ("prediction", {name: predicting(model, test) for name, model in models.items()}),
        ("training step", {name: training(m, train, make) for name, m in models.items()}),
    ):
        turns = {name: partial(seconds_of, run, "cpu") for name, run in rows.items()}
        seconds = interleaved(turns, options["rounds"])
        median = {name: statistics.median(values) for name, values in seconds.items()}
        total = sum(median[head] for head in single)
        parts = ", ".join(f"{name} {value:.3f} s" for name, value in median.items())
        print(f"{what}: {parts}; together {median['together'] / total:.2f} of the sum")


if __name__ == "__main__":
    main(sys.argv[1:])
