"""Contract tests of a head, one function per requirement."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from densekit.inference.export.base import Example, PredictionsByName, traced
from densekit.inference.restore import restore
from densekit.model import DenseModel
from densekit.ops.precision import first_wrong
from densekit.testing import samples as vary
from densekit.testing.contract import Check
from densekit.testing.subject import HEAD, Subject, check_gradients, head_of, total_loss
from densekit.testing.two_processes import two_processes
from densekit.training.devices import layer_calls
from densekit.training.metric_set import build_metrics
from densekit.types import Batch, Features, Sample

MANY = 500
ODD = 13
"""Margin that makes the sides of an image odd and not a multiple of any stride."""
STEPS, RATE, FALL = 40, 2e-3, 0.9
"""Most steps on one batch, learning rate, and share of the first loss that must be undercut."""


def _declares(subject: Subject) -> None:
    head = head_of(subject.model())
    for name in ("reads", "target_keys"):
        value = getattr(head, name)
        assert isinstance(value, tuple), f"{name} is {value!r}, not a tuple"
        assert value, f"{name} is empty"
    batch = subject.batch()
    missing = [key for key in head.target_keys if key not in batch]
    assert not missing, f"target_keys has {missing}, which the samples lack"
    divisor = head.size_divisor
    assert isinstance(divisor, int), f"size_divisor is {divisor!r}, not an int"
    assert divisor >= 1, f"size_divisor is {divisor}"


def _leaves_inputs(subject: Subject) -> None:
    model, batch = subject.model().eval(), subject.batch()
    with torch.no_grad():
        features = model.features(batch)
        kept = {level: value.clone() for level, value in features.items()}
        given = {k: v.clone() for k, v in batch.items() if isinstance(v, Tensor)}
        model.loss(batch, features)
        model.predict(batch, features)
    for level, value in kept.items():
        assert torch.equal(value, features[level]), f"level {level} was changed in place"
    for key, value in given.items():
        assert torch.equal(value, cast(Any, batch)[key]), f"batch[{key!r}] was changed in place"


def _static_shapes(subject: Subject) -> None:
    model, batch = subject.model().eval(), subject.without_targets()
    noise = cast(Batch, {**batch, "image": torch.randint_like(batch["image"], 255)})
    with torch.no_grad():
        for what, call in _calls(model).items():
            first, second = call(batch), call(noise)
            assert _shapes(first) == _shapes(second), (
                f"{what} returns {_shapes(first)} for one image and {_shapes(second)} for another"
            )
            short = [key for key, value in first.items() if len(value) != len(batch["size"])]
            assert not short, f"{what}: the first axis of {short} is not the batch"


def _results(subject: Subject) -> None:
    model, batch = subject.model().eval(), subject.without_targets()
    with torch.no_grad():
        predictions = model.predict(batch)
    if "boxes" in predictions[HEAD]:
        missing = {"scores", "labels", "valid"} - set(predictions[HEAD])
        assert not missing, f"boxes come without {sorted(missing)}"
    results = restore(predictions, batch)
    assert all(result[HEAD] for result in results), "an image has an empty result"


def _several(subject: Subject) -> None:
    model = subject.model()
    check_gradients(model, total_loss(model, subject.batch()))
    moved = [p for p in head_of(model).parameters() if p.grad is not None and bool(p.grad.any())]
    assert moved or not list(head_of(model).parameters()), "every gradient of the head is zero"


def _no_object(subject: Subject) -> None:
    _trains_on(subject, [vary.without_objects(s, subject.target_specs) for s in subject.samples])


def _one_object(subject: Subject) -> None:
    _trains_on(subject, [vary.with_objects(s, subject.target_specs, 1) for s in subject.samples])


def _many_objects(subject: Subject) -> None:
    specs = subject.target_specs
    _trains_on(subject, [vary.with_objects(s, specs, MANY) for s in subject.samples[:2]])


def _all_ignored(subject: Subject) -> None:
    _trains_on(subject, [vary.ignored(s, subject.target_specs) for s in subject.samples])


def _batch_of_one(subject: Subject) -> None:
    _trains_on(subject, subject.samples[:1])


def _odd_sizes(subject: Subject) -> None:
    first, *others = subject.samples
    _trains_on(subject, [vary.enlarged(first, subject.target_specs, ODD), *others])


def _one_channel(subject: Subject) -> None:
    _trains_on(subject, [vary.with_channels(sample, 1) for sample in subject.samples])


def _four_channels(subject: Subject) -> None:
    _trains_on(subject, [vary.with_channels(sample, 4) for sample in subject.samples])


def _bf16(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = total_loss(model, batch)
    try:
        check_gradients(model, loss)
    except AssertionError:
        # Some kernels read memory that nobody wrote: a fault of this processor, not of the head.
        calls = layer_calls(model, [batch["image"].shape[2:]])
        if first_wrong(calls, torch.bfloat16, torch.device("cpu")) is None:
            raise
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        _check_finite(model.eval().predict(batch)[HEAD], "predictions")


def _one_graph(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    kinds = []
    for training in (True, False):
        model.train(training)
        with torch.no_grad():
            kinds.append({what: _shapes(call(batch)) for what, call in _calls(model).items()})
        kinds[-1]["loss"] = {name: () for name in model.loss(batch)}
    assert kinds[0] == kinds[1], f"{kinds[0]} in training mode, {kinds[1]} in eval mode"


def _determined(subject: Subject) -> None:
    batch = subject.batch()
    first, second = subject.model(), subject.model()
    for model in (first, second):
        total_loss(model, batch).backward()
    for (name, one), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other), f"the initial {name} differs for the same seed"
        same = one.grad is None or torch.equal(one.grad, cast(Tensor, other.grad))
        assert same, f"the gradient of {name} differs for the same seed"


def _compiles(subject: Subject) -> None:
    model, batch = subject.model().eval(), subject.batch()
    tensors = cast(Batch, {key: value for key, value in batch.items() if key != "meta"})
    torch._dynamo.reset()
    compiled = torch.compile(DenseModel.loss, backend="eager", fullgraph=True)
    expected, found = model.loss(tensors), compiled(model, tensors)
    torch.testing.assert_close(found, expected)


def _exports(subject: Subject) -> None:
    sides = tuple(subject.without_targets()["image"].shape[2:])
    model = subject.model().eval()
    program = traced(model, Example(sides, dynamic=("batch",))).module()
    for batch in (1, 3):
        image, size = Example(sides, batch).noise(model)
        with torch.no_grad():
            expected, found = PredictionsByName(model)(image, size), program(image, size)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def _saves(subject: Subject) -> None:
    model, batch = subject.model(), subject.without_targets()
    total_loss(model, subject.batch()).backward()
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = subject.model()
    other.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(model)  # as weight averaging does
    with torch.no_grad():
        expected = model.eval().predict(batch)[HEAD]
        for what, one in (("a loaded model", other), ("a copy", copied)):
            for name, value in one.eval().predict(batch)[HEAD].items():
                assert torch.equal(value, expected[name]), f"{what} predicts different {name}"


def _learns(subject: Subject) -> None:
    model, batch = subject.model(), subject.batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    losses: list[float] = []
    while not _has_fallen(losses):
        assert len(losses) < STEPS, f"the loss went from {losses[0]:.4f} to {losses[-1]:.4f}"
        loss = total_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))


def _has_fallen(losses: list[float]) -> bool:
    """Whether the last five of at least ten losses are below the wanted share of the first."""
    return len(losses) >= 10 and max(losses[-5:]) < FALL * losses[0]


def _judged(subject: Subject) -> None:
    model, (results, truth) = subject.model(), subject.results()
    metrics = build_metrics(model, None, {})
    metrics.reset(torch.device("cpu"))
    if len(truth) == len(results):
        metrics.update([{HEAD: result} for result in results], truth)
        values = metrics.compute()
        wrong = [name for name, value in values.items() if value.numel() != 1]
        assert not wrong, f"{wrong} are not single numbers"
        _check_main(model.heads[HEAD].main_metric, list(values))
        metrics.reset(torch.device("cpu"))
    metrics.update([], [])  # a rank without an image in its last batch


def _check_main(main: tuple[str, str] | None, names: list[str]) -> None:
    if main is not None:
        assert f"{HEAD}/{main[0]}" in names, f"main_metric {main[0]!r} is not in {names}"
        assert main[1] in ("max", "min"), f"main_metric: {main[1]!r} is neither max nor min"


def _trains_on(subject: Subject, samples: list[Sample] | Any) -> None:
    model, batch = subject.model(samples), subject.batch(samples)
    check_gradients(model, total_loss(model, batch))
    with torch.no_grad():
        _check_finite(model.eval().predict(subject.without_targets(samples))[HEAD], "predictions")


def _calls(model: DenseModel) -> dict[str, Callable[[Batch], dict[str, Tensor]]]:
    def forward(batch: Batch) -> dict[str, Tensor]:
        return model(batch["image"], batch["size"])[HEAD]  # type: ignore[no-any-return]

    def predict(batch: Batch) -> Features:
        return model.predict(batch)[HEAD]

    return {"forward": forward, "decode": predict}


def _shapes(values: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in values.items()}


def _check_finite(values: dict[str, Tensor], what: str) -> None:
    wild = [key for key, value in values.items() if not bool(torch.isfinite(value.float()).all())]
    assert not wild, f"{what}: {wild} are not finite"


CHECKS = (
    Check(
        "declares",
        "`reads` names levels and `target_keys` keys of the batch, both tuples; levels that nobody"
        " reads are not built",
        _declares,
    ),
    Check(
        "leaves inputs alone",
        "levels and targets are not changed in place, as other heads read them too",
        _leaves_inputs,
    ),
    Check(
        "static shapes",
        "forward and decode return tensors whose first axis is the batch and whose shapes do not"
        " depend on the content of the image, as inference engines and graphs require",
        _static_shapes,
    ),
    Check("results", "every image has a result after restore; boxes come with scores", _results),
    Check("gradients", "every parameter gets a gradient: DDP fails otherwise", _several),
    Check("no object", "without objects the loss is finite and has gradients", _no_object),
    Check("one object", "it trains with one object per image", _one_object),
    Check(f"{MANY} objects", "it trains on crowded images, and drops no object", _many_objects),
    Check("all ignored", "if every target is ignored the loss is finite", _all_ignored),
    Check("batch of one", "it trains with one image per process", _batch_of_one),
    Check("odd sizes", "it trains on images of different, odd sides in a padded batch", _odd_sizes),
    Check("1 channel", "it trains on grey images", _one_channel),
    Check("4 channels", "it trains on images of four channels", _four_channels),
    Check("bf16", "loss, gradients and predictions are finite under bfloat16 autocast", _bf16),
    Check(
        "eval equals train",
        "loss, forward and decode return the same names and shapes in training and eval mode:"
        " validation computes losses, and exported programs have no mode",
        _one_graph,
    ),
    Check("determined", "the same seed gives the same weights, loss and gradients", _determined),
    Check("compiles", "torch.compile traces the loss as one graph, with equal terms", _compiles),
    Check("exports", "torch.export traces predictions of any batch, with equal values", _exports),
    Check("saves", "a loaded or copied model predicts the same, bit for bit", _saves),
    Check(
        "metrics",
        "its metrics return numbers, the main one among them, and accept a batch without images",
        _judged,
    ),
    Check(
        "learns",
        f"the loss on one batch falls by {1 - FALL:.0%} within {STEPS} steps of AdamW",
        _learns,
    ),
    Check(
        "two processes",
        "a step in two processes, one of them without objects, gives both the same weights, those"
        " of a single process: losses divide by `global_count`",
        two_processes,
    ),
)
"""Requirements of every head, in the order of the report."""
