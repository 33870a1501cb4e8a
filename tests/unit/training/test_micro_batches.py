"""A step in micro-batches has the loss, the gradients and the buffers of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor

from densekit.heads import (
    ATSS,
    FCOS,
    SSD,
    YOLOX,
    Classification,
    DeepLabV3Plus,
    Embedding,
    FasterRCNN,
    MaskRCNN,
    RetinaNet,
    UNet,
)
from densekit.heads.faster_rcnn import BoxHead, CascadeBoxHead, MaskHead
from densekit.losses import (
    AdaFace,
    ArcFace,
    CurricularFace,
    Dice,
    GeneralisedDice,
    HardestFraction,
    MarginSoftmax,
    PartialFC,
    PixelCrossEntropy,
    SupervisedContrastive,
    Triplet,
    Tversky,
)
from densekit.ops import dist
from densekit.ops.parts import Exchange
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.testing.subject import Subject
from densekit.training import Ema, OutOfMemory
from densekit.training.micro_batches import Saved, computed_in_parts, divided
from densekit.training.out_of_memory import StepMemoryError, _Retried
from tests.unit.tiny import SMALL_HEAD
from tests.unit.training.fakes import FakeData, FakeModel, FakeSource, fake_lit, trainer

CLASSES = 3
LOSSES = {
    "ce": PixelCrossEntropy(ohem=HardestFraction(0.5)),
    "dice": Dice(batch=True),
    "generalised": GeneralisedDice(batch=True),
    "tversky": Tversky(batch=True),
}
PAIRS = {"triplet": Triplet(), "contrast": SupervisedContrastive()}


def faces(margin: Callable[[], Any], specs: Any) -> Embedding:
    classifier = partial(MarginSoftmax, margin=margin())  # fresh: it keeps statistics
    return Embedding(specs, 5, embedding_size=8, classifier=classifier, pair_losses=PAIRS)


HEADS = {
    "faster_rcnn": partial(FasterRCNN, **SMALL_HEAD),
    "cascade_rcnn": partial(
        FasterRCNN,
        num_classes=CLASSES,
        box_head=partial(CascadeBoxHead, stage=partial(BoxHead, hidden=(16,))),
    ),
    "mask_rcnn": partial(MaskRCNN, **SMALL_HEAD, mask_head=partial(MaskHead, convs=(8,))),
    "retinanet": partial(RetinaNet, num_classes=CLASSES, depth=1),
    "atss": partial(ATSS, num_classes=CLASSES, depth=1),
    "fcos": partial(FCOS, num_classes=CLASSES, depth=1),
    "ssd": partial(SSD, num_classes=CLASSES, extra_channels=(16,)),
    "yolox": partial(YOLOX, num_classes=CLASSES, channels=8, l1_weight=1),
    "unet": partial(UNet, num_classes=CLASSES, losses=LOSSES, decoder_channels=[8] * 5),
    "deeplab": partial(DeepLabV3Plus, num_classes=CLASSES),
    "classification": partial(Classification, num_classes=CLASSES),
    "faces": partial(faces, ArcFace),
    "ada": partial(faces, AdaFace),
    "curricular": partial(faces, CurricularFace),
}


def of_step(model: Any, batch: Any, count: int) -> dict[str, Tensor]:
    """Terms, gradients and buffers of a step."""

    def loss(part: Any) -> tuple[Tensor, dict[str, Tensor]]:
        terms = model.loss(part["toy"])
        return torch.stack(list(terms.values())).sum(), terms

    parts = divided({"toy": batch}, count)
    if count == 1:
        total, terms = loss(parts[0])
        total.backward()
    else:
        losses = [partial(loss, part) for part in parts]
        total, terms, complete = computed_in_parts(model, losses, lambda one: one.backward())
        total.backward()
        complete()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {"total": total.detach(), **terms, **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("name", HEADS)
def test_every_head_has_the_step_of_the_whole_batch(name: str, count: int) -> None:
    samples = synthetic_samples(CLASSES, count=5)
    info = {**synthetic_info(CLASSES), "num_identities": 5}
    subject = Subject(HEADS[name], samples, {}, info)

    def model() -> Any:
        made = subject.model().double()
        for part in made.modules():  # batch norm sees the images of a part, dropout draws anew
            part.train("Norm" not in type(part).__name__ and "Dropout" not in type(part).__name__)
        return made

    batch = {**subject.batch(), "identity": torch.tensor([0, 0, 1, 1, 2])}
    whole, parts = (of_step(model(), batch, n) for n in (1, count))
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-6, atol=1e-7, msg=key)


@pytest.mark.parametrize("name", ["deeplab", "unet", "classification"])
def test_gradients_in_bfloat16_are_as_near_as_those_of_the_whole_batch(name: str) -> None:
    subject = Subject(HEADS[name], synthetic_samples(CLASSES, count=4), {}, synthetic_info(CLASSES))

    def gradient(count: int, *, reduced: bool = True) -> Tensor:
        model = subject.model().eval()
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            found = of_step(model, subject.batch(), count)
        return torch.cat([found[key].flatten() for key, _ in model.named_parameters()])

    exact, whole, parts = gradient(1, reduced=False), gradient(1), gradient(2)
    assert (parts - exact).norm() <= 2 * (whole - exact).norm() > 0


def test_batch_norm_keeps_the_mean_of_the_statistics() -> None:
    subject = Subject(HEADS["classification"], synthetic_samples(CLASSES), {}, synthetic_info(3))
    whole, parts = (of_step(subject.model().double(), subject.batch(), n) for n in (1, 2))
    stem = "backbone.bn1."
    assert parts[stem + "num_batches_tracked"] == 1
    torch.testing.assert_close(parts[stem + "running_mean"], whole[stem + "running_mean"])
    assert not torch.equal(parts[stem + "running_var"], whole[stem + "running_var"])
    assert not torch.equal(parts["head/ce"], whole["head/ce"])


def test_images_and_lists_of_every_data_set_are_divided() -> None:
    batch: Any = {"key": torch.arange(5), "meta": list("abcde"), "extra": {"x": torch.arange(5)}}
    parts: Any = divided({"a": batch, "b": {"key": torch.arange(2)}}, 4)
    assert len(parts) == 2  # no part without an image of b
    assert [part["a"]["meta"] for part in parts] == [["a", "b"], ["c", "d", "e"]]
    assert [part["a"]["extra"]["x"].tolist() for part in parts] == [[0, 1], [2, 3, 4]]
    assert [part["b"]["key"].tolist() for part in parts] == [[0], [1]]


def test_parts_with_different_calls_are_refused() -> None:
    exchange = Exchange(2)
    with dist.computed_in(exchange):
        exchange.begin(0)
        dist.global_count(torch.tensor(1))
        exchange.begin(1)
        with pytest.raises(ValueError, match=r"got \[0, 1\] calls"):
            exchange.end_round()
    assert float(dist.global_count(torch.tensor(3))) == 3


def weights(folder: Path, source: FakeSource | None = None, **settings: Any) -> dict[str, Tensor]:
    """Weights after a training in float64 without batch norm."""
    of_trainer = {k: settings.pop(k) for k in list(settings) if k.startswith(("acc", "callb"))}
    torch.manual_seed(1)
    model = FakeModel()
    model.backbone[1] = torch.nn.Identity()
    lit = fake_lit(model.double(), **settings)
    data = FakeData({"toy": source or FakeSource(dtype=torch.float64)})
    trainer(folder, max_epochs=2, **of_trainer).fit(lit, datamodule=data)
    return dict(model.state_dict())


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("averaged", [False, True])
def test_a_training_in_micro_batches_is_the_same(
    tmp_path: Path, accumulated: int, averaged: bool
) -> None:
    def trained(count: int) -> dict[str, Tensor]:
        callbacks = [Ema(0.9)] if averaged else []
        more: Any = {"callbacks": callbacks, "accumulate_grad_batches": accumulated}
        return weights(tmp_path, micro_batches=count, **more)

    whole, parts = trained(1), trained(2)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-9, atol=1e-12)


class Scarce(L.Callback):
    """Memory for a number of images, in forward or in backward."""

    def __init__(self, images: int, at: str, error: type[BaseException], after: int = 0) -> None:
        self.images, self.at, self.error, self.after = images, at, error, after
        self.seen: list[int] = []
        self.handles: list[Any] = []

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        loss, weight = pl_module._loss, pl_module.model.backbone[0].weight

        def limited(model: Any, batch: Any, **settings: Any) -> Any:
            self.seen.append(len(batch["key"]))
            terms = loss(model, batch, **settings)
            if len(batch["key"]) > self.images and trainer.global_step >= self.after:
                if self.at == "forward":
                    self.fail()
                if torch.is_grad_enabled():  # gradients of the head are accumulated by then
                    self.handles.append(weight.register_hook(self.fail))
            return terms

        pl_module._loss = limited

    def fail(self, gradient: Any = None) -> NoReturn:
        while self.handles:
            self.handles.pop().remove()
        raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


@pytest.mark.parametrize("at", ["forward", "backward"])
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_a_step_out_of_memory_is_repeated_in_parts(
    tmp_path: Path,
    at: str,
    accumulated: int,
    error: type[BaseException],
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = weights(tmp_path, accumulate_grad_batches=accumulated)
    scarce = Scarce(1, at, error, after=1)
    settings: Any = {"accumulate_grad_batches": accumulated, "callbacks": [OutOfMemory(), scarce]}
    parts = weights(tmp_path, **settings)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-9, atol=1e-12)
    lines = [line for line in caplog.messages if "micro-batches" in line]
    assert [line.split(" micro-batches (")[0][-1] for line in lines] == ["2", "4"]
    assert lines[0].startswith("step 1: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
    assert set(scarce.seen[-8:]) == {1}


def test_one_image_that_does_not_fit_ends_the_run(tmp_path: Path) -> None:
    scarce = Scarce(0, "forward", MemoryError)
    with pytest.raises(StepMemoryError, match="got: CUDA out of memory.*GiB., with one image"):
        weights(tmp_path, callbacks=[OutOfMemory(), scarce])


def test_another_error_is_not_repeated(tmp_path: Path) -> None:
    scarce = Scarce(2, "forward", KeyError)
    with pytest.raises(KeyError):
        weights(tmp_path, callbacks=[OutOfMemory(), scarce])
    assert len(scarce.seen) == 1


def test_a_resumed_run_goes_on_with_as_many_micro_batches(tmp_path: Path) -> None:
    callback = OutOfMemory()
    callback.load_state_dict({"micro_batches": 4})
    scarce = Scarce(1, "forward", MemoryError)
    weights(tmp_path, callbacks=[callback, scarce])
    assert set(scarce.seen) == {1}
    assert callback.state_dict() == {"micro_batches": 4}


def test_what_cannot_be_divided_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="training.micro_batches: expected at least 1, got 0"):
        fake_lit(micro_batches=0)
    lit = fake_lit(FakeModel(), micro_batches=2)
    lit.model.centres = PartialFC(5, 4)
    run = trainer(tmp_path, max_epochs=1)
    with pytest.raises(ValueError, match=r"expected 1 with model\.centres, whose sampled classes"):
        run.fit(lit, datamodule=FakeData())


def test_every_repetition_begins_with_the_gradients_of_the_batches_before() -> None:
    layer = torch.nn.Linear(1, 1)
    for parameter in layer.parameters():
        parameter.grad = torch.ones_like(parameter)
    attempts: list[str] = []

    class Closure:
        _zero_grad_fn = None

        def __call__(self) -> None:
            layer.weight.grad.add_(1)  # type: ignore[union-attr]
            if len(attempts) < 2:
                raise MemoryError

    _Retried(Closure(), attempts.append, layer, Saved([]))()  # type: ignore[arg-type]
    assert attempts == ["MemoryError", "MemoryError"]
    assert (float(layer.weight.grad), float(layer.bias.grad)) == (2, 1)
