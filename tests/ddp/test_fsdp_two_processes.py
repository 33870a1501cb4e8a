"""Weights divided over two processes train as those of one process, and as two copies do."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from densekit.artifact import load_artifact, read_checkpoint
from densekit.backbones import ResNet, TimmBackbone
from densekit.data import DataModule, Scenes, SemanticScenes, Source
from densekit.heads import FasterRCNN, UNet
from densekit.heads.faster_rcnn import RPN, BoxHead, ProposalRule, SamplingRule
from densekit.inference import WholeImage
from densekit.model import DenseModel
from densekit.necks import FPN
from densekit.ops import dist
from densekit.testing import run_distributed
from densekit.training import (
    Checkpoint,
    Ema,
    Fsdp,
    LitModel,
    NonFinite,
    NonFiniteLossError,
    Stopping,
    Transfer,
    module,
)
from densekit.training.balance import UncertaintyBalance
from densekit.training.evidence import stored_step
from densekit.training.step import rerun
from tests.unit.training.fakes import trainer

pytestmark = pytest.mark.ddp

IMAGES, STEPS, STOP = 4, 4, 3
"""Images of a batch of all processes; optimiser steps; the step after which a run is stopped."""
EXACT = {"rtol": 0.0, "atol": 1e-12}
"""Rounding of float64."""
TASKS = ("detection", "segmentation")
SGD = partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=1e-3)
ADAMW = partial(torch.optim.AdamW, lr=1e-3)

CONFIG = "backbone: {_target_: none}\nheads: {}\n"


def detector() -> DenseModel:
    rpn = partial(RPN, proposals=ProposalRule(100, 50), sampling=SamplingRule(32, 0.5))
    box_head = partial(BoxHead, hidden=(16,), sampling=SamplingRule(16, 0.25))
    head = partial(FasterRCNN, num_classes=5, rpn=rpn, box_head=box_head)
    neck = partial(FPN, out_channels=8)
    backbone = ResNet(18, width=8, norm="frozen")
    return DenseModel(backbone, {"detection": head}, neck, info_of("detection", 5))


def segmenter(backbone: nn.Module | None = None, norm: str = "group") -> DenseModel:
    backbone = backbone or ResNet(18, width=8, norm=norm)
    channels = [8] * (len(backbone.features) - 1)
    head = partial(UNet, num_classes=6, decoder_channels=channels, norm=norm)
    return DenseModel(backbone, {"segmentation": head}, info=info_of("segmentation", 6))


def info_of(head: str, count: int) -> dict[str, Any]:
    names = [f"class {number}" for number in range(count)]
    return {"heads": {head: {"names": names, "ids": list(range(count)), "num_classes": count}}}


def lit_of(build: Callable[[], DenseModel], optimizer: Any = SGD, **settings: Any) -> LitModel:
    torch.manual_seed(3)
    return LitModel(build(), optimizer, inferer=WholeImage(), config=CONFIG, **settings).double()


def data_of(task: str, sources: int = 1) -> DataModule:
    kind = Scenes if task == "detection" else SemanticScenes
    made = {
        f"scenes{number}": Source(
            train=kind("train", 16, size=(64, 64), seed=number),
            val=kind("val", 3, size=(64, 64), seed=number),
            heads=[task],
            batch_size=IMAGES // dist.world_size(),
            num_workers=0,
        )
        for number in range(sources)
    }
    return DataModule(made)


def run_of(folder: Path, strategy: str, **settings: Any) -> Any:
    steps = {"max_steps": STEPS, "accumulate_grad_batches": 2, "gradient_clip_val": 0.5}
    common = {"devices": dist.world_size(), "precision": "64-true"}
    divided = Fsdp() if strategy == "fsdp" else strategy
    return trainer(folder, strategy=divided, **common | steps | settings)


def whole(module: nn.Module) -> dict[str, Tensor]:
    return {name: dist.whole(value).clone() for name, value in module.state_dict().items()}


def held(lit: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Bytes of parameters and of the optimiser's state that this process holds."""
    states = [value for state in optimizer.state.values() for value in state.values()]
    parts = [dist.own_part(t) for t in (*lit.parameters(), *states) if isinstance(t, Tensor)]
    return sum(part.untyped_storage().nbytes() for part in parts)


def train(folder: Path, task: str, strategy: str, resume: Path | None = None) -> dict[str, Any]:
    """Trains with clipping, accumulation and averaged weights, and validates after every epoch."""
    lit = lit_of(detector if task == "detection" else segmenter)
    run = run_of(folder, strategy, callbacks=[Ema(0.9), Checkpoint(folder)])
    run.fit(lit, datamodule=data_of(task), ckpt_path=resume, weights_only=True)
    numbers = {name: float(value) for name, value in run.callback_metrics.items()}
    kept = {name: value for name, value in numbers.items() if name.startswith("val/")}
    return {"state": whole(lit), "metrics": kept, "held": held(lit, run.optimizers[0])}


class Terminate(Callback):
    """The last process receives SIGTERM in the middle of an accumulation."""

    def __init__(self, stopping: Stopping) -> None:
        self.stopping = stopping

    def on_train_batch_start(self, run: Any, *_: Any) -> None:
        if run.global_step == STOP - 1 and dist.rank() == dist.world_size() - 1:
            self.stopping.signal = signal.SIGTERM


def train_until_stopped(folder: Path, strategy: str) -> None:
    stopping = Stopping()
    callbacks = [Ema(0.9), stopping, Terminate(stopping), Checkpoint(folder)]
    with pytest.raises(SystemExit):
        run_of(folder, strategy, callbacks=callbacks).fit(
            lit_of(segmenter), datamodule=data_of("segmentation")
        )


def in_two_processes(rank: int, folder: Path) -> dict[str, Any]:
    found = {task: train(folder / task, task, "fsdp") for task in TASKS}
    task = "segmentation"
    found["ddp"] = train(folder / "ddp", task, "ddp")
    train_until_stopped(folder / "stopped", "fsdp")
    found["resumed"] = train(folder / "resumed", task, "fsdp", folder / "stopped" / "last.ckpt")
    found["taken over"] = train(folder / "taken", task, "fsdp", folder / "one" / "last.ckpt")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fsdp")


@pytest.fixture(scope="module")
def alone(folder: Path) -> dict[str, Any]:
    """Runs of one process."""
    train_until_stopped(folder / "one", "auto")
    return {task: train(folder / "alone" / task, task, "auto") for task in TASKS}


@pytest.fixture(scope="module")
def ranks(folder: Path, alone: dict[str, Any]) -> list[dict[str, Any]]:
    """Runs of two processes, of which some continue one of a single process."""
    return run_distributed(in_two_processes, 2, folder)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, **EXACT)


@pytest.mark.parametrize("task", TASKS)
def test_weights_and_metrics_are_those_of_one_process(
    task: str, alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    start = lit_of(detector if task == "detection" else segmenter).state_dict()
    for found in ranks:
        assert_close(found[task]["state"], alone[task]["state"])
        assert found[task]["metrics"].keys() == alone[task]["metrics"].keys()
        assert found[task]["metrics"] == pytest.approx(
            alone[task]["metrics"], rel=0, abs=1e-6, nan_ok=True
        )
    assert max(float((start[n] - v).abs().max()) for n, v in found[task]["state"].items()) > 1e-3


def test_weights_are_those_of_ddp(ranks: list[dict[str, Any]]) -> None:
    for found in ranks:
        assert_close(found["segmentation"]["state"], found["ddp"]["state"])


def test_a_process_holds_half_of_weights_and_optimiser(ranks: list[dict[str, Any]]) -> None:
    full = ranks[0]["ddp"]["held"]
    for found in ranks:
        assert found["segmentation"]["held"] < 0.51 * full


def test_a_terminated_run_resumes_bit_equal(folder: Path, ranks: list[dict[str, Any]]) -> None:
    assert read_checkpoint(folder / "stopped" / "last.ckpt")["global_step"] == STOP
    for found in ranks:
        straight, resumed = found["segmentation"], found["resumed"]
        assert [
            n for n, v in straight["state"].items() if not torch.equal(v, resumed["state"][n])
        ] == []
        assert straight["metrics"] == resumed["metrics"]


def test_runs_continue_with_one_process_and_back(
    folder: Path, alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    back = train(folder / "back", "segmentation", "auto", folder / "stopped" / "last.ckpt")
    assert_close(back["state"], alone["segmentation"]["state"])
    assert_close(ranks[0]["taken over"]["state"], alone["segmentation"]["state"])


def test_a_checkpoint_is_one_whole_file(
    folder: Path, alone: dict[str, Any], ranks: list[dict[str, Any]]
) -> None:
    divided, one = (
        read_checkpoint(folder / part / "segmentation" / "last.ckpt") for part in ("", "alone")
    )
    assert divided.keys() == one.keys()
    for key in ("state_dict", "current_model_state"):
        assert_close(divided[key], one[key])
    for first, second in zip(divided["optimizer_states"], one["optimizer_states"], strict=True):
        for index, state in second["state"].items():
            torch.testing.assert_close(first["state"][index], state, **EXACT)
    assert_close(
        load_artifact(folder / "segmentation" / "last.ckpt")["state_dict"],
        {name.removeprefix("model."): value for name, value in one["state_dict"].items()},
    )


def timm_network(name: str, **settings: Any) -> DenseModel:
    return segmenter(TimmBackbone(name, settings=settings))


class Synced(nn.SyncBatchNorm):
    """Synchronised batch norm on the CPU, where torch's own cannot run."""

    def forward(self, x: Tensor) -> Tensor:
        mean, var = self.running_mean, self.running_var
        if self.training:
            axes = (0, 2, 3)
            count = dist.sum_over_processes(x.new_tensor(x[:, 0].numel()))
            mean = dist.sum_over_processes(x.sum(axes)) / count
            centred = x - mean.view(1, -1, 1, 1)
            var = dist.sum_over_processes(centred.square().sum(axes)) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var * count / (count - 1), self.momentum)
        scale, shift = (v.view(1, -1, 1, 1) for v in (self.weight, self.bias))
        mean, var = mean.view(1, -1, 1, 1), var.view(1, -1, 1, 1)
        return (x - mean) * (var + self.eps).rsqrt() * scale + shift


class Norm(nn.BatchNorm2d):
    """Batch norm that `trainer.sync_batchnorm` replaces by `Synced`."""

    synced = Synced

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def segmenter_to_sync() -> DenseModel:
    model = segmenter(norm="batch")
    for norm in model.modules():
        if type(norm) is nn.BatchNorm2d:
            norm.__class__ = Norm
    return model


SYNCED = "synchronised batch norm"  # DDP refuses it on the CPU
VARIANTS: dict[str, tuple[Callable[[], DenseModel], dict[str, Any]]] = {
    "batch norm": (partial(segmenter, norm="batch"), {}),
    "micro-batches": (segmenter, {"micro_batches": 2}),
    "recomputed maps": (
        lambda: segmenter(ResNet(18, width=8, norm="batch", activation_checkpointing=True)),
        {},
    ),
    "two data sets, learned balance": (segmenter, {"balance": UncertaintyBalance}),
    "frozen parts": (segmenter, {"transfer": Transfer(["backbone.conv1", "backbone.layer1"])}),
    "late parts": (partial(segmenter, norm="batch"), {"transfer": Transfer(gradual=0.5)}),
    "AdamW": (segmenter, {"optimizer": ADAMW}),
    "ConvNeXt": (partial(timm_network, "convnext_atto", dims=(8, 16, 24, 32)), {}),
    "Swin": (
        partial(
            timm_network,
            "swin_tiny_patch4_window7_224",
            **{"img_size": 64, "window_size": 2, "embed_dim": 8},
            **{"depths": (1, 2, 1, 1), "num_heads": (1, 2, 2, 2)},
        ),
        {},
    ),
}


def train_variant(folder: Path, name: str, strategy: str) -> dict[str, Tensor]:
    build, settings = VARIANTS.get(name, (segmenter_to_sync, {}))
    lit = lit_of(build, **settings)
    count = 2 if "two data sets" in name else 1
    steps = {"accumulate_grad_batches": 1, "sync_batchnorm": name == SYNCED}
    run = run_of(folder, strategy, callbacks=[Ema(0.9)], **steps)
    run.fit(lit, datamodule=data_of("segmentation", count))
    metrics = {n: v for n, v in run.callback_metrics.items() if n.startswith("val/")}
    state = whole(lit)
    if dist.rank() and name != SYNCED:
        # Statistics of its own images, which are neither evaluated nor saved.
        state = {n: v for n, v in state.items() if n in dict(lit.named_parameters())}
    return state | metrics


class Poison(Callback):
    """Makes a loss or a gradient NaN in the second step, of all processes or of the last one."""

    def __init__(self, kind: str, everywhere: bool) -> None:
        self.kind, self.everywhere = kind, everywhere

    def _is_due(self, run: Any) -> bool:
        return run.global_step == 1 and (self.everywhere or dist.rank() == dist.world_size() - 1)

    def on_train_batch_start(self, run: Any, lit: Any, batch: Any, batch_idx: int) -> None:
        if self.kind == "loss" and self._is_due(run):
            batch["scenes0"]["image"] = batch["scenes0"]["image"].double() * torch.nan

    def on_after_backward(self, run: Any, lit: Any) -> None:
        if self.kind == "gradient" and self._is_due(run):
            dist.own_part(lit.model.backbone.conv1.weight.grad).fill_(torch.nan)


def train_poisoned(folder: Path, kind: str, strategy: str, skip: int) -> dict[str, Tensor]:
    lit = lit_of(segmenter)
    callbacks = [Poison(kind, everywhere=skip == 0), NonFinite(folder, skip=skip)]
    steps = {"accumulate_grad_batches": 1, "limit_val_batches": 0}
    run_of(folder, strategy, callbacks=callbacks, **steps).fit(
        lit, datamodule=data_of("segmentation")
    )
    return whole(lit)


def stop_poisoned(folder: Path, kind: str) -> str:
    with pytest.raises(NonFiniteLossError) as caught:
        train_poisoned(folder / kind, kind, "fsdp", skip=0)
    return str(caught.value)


def variants(rank: int, folder: Path) -> dict[str, Any]:
    module.check_sync_batch_norm = lambda *_: None  # `Synced` runs on the CPU
    both, kinds = ("ddp", "fsdp"), ("loss", "gradient")
    found: dict[str, Any] = {SYNCED: train_variant(folder, SYNCED, "fsdp")}
    for name in VARIANTS:
        found[name] = [train_variant(folder, name, strategy) for strategy in both]
    for kind in kinds:
        found[f"skipped {kind}"] = [train_poisoned(folder, kind, one, skip=1) for one in both]
        found[f"stopped {kind}"] = stop_poisoned(folder, kind)
    return found


@pytest.fixture(scope="module")
def pairs(folder: Path) -> list[dict[str, Any]]:
    """What both strategies lead to in each variant, in every process."""
    return run_distributed(variants, 2, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*VARIANTS, "skipped loss", "skipped gradient"])
def test_variants_train_as_with_ddp(name: str, pairs: list[dict[str, Any]]) -> None:
    for found in pairs:
        ddp, fsdp = found[name]
        assert ddp.keys() == fsdp.keys()
        for key, value in ddp.items():
            atol = 1e-6 if key.startswith("val/") else 1e-11
            torch.testing.assert_close(fsdp[key], value, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.slow
def test_synchronised_batch_norm_is_that_of_one_process(
    folder: Path, pairs: list[dict[str, Any]]
) -> None:
    alone = train_variant(folder, SYNCED, "auto")
    for found in pairs:
        assert found[SYNCED].keys() == alone.keys()
        for key, value in alone.items():
            atol = 1e-6 if key.startswith("val/") else 1e-11
            torch.testing.assert_close(found[SYNCED][key], value, rtol=0, atol=atol, equal_nan=True)


@pytest.mark.slow
def test_a_step_that_is_not_finite_leaves_whole_weights(
    folder: Path, pairs: list[dict[str, Any]]
) -> None:
    for rank, found in enumerate(pairs):
        assert "First non-finite output: backbone.conv1" in found["stopped loss"]
        assert "broken data: image" in found["stopped loss"]
        assert "the gradient of step 1 is not finite" in found["stopped gradient"]
        for kind in ("loss", "gradient"):
            evidence = read_checkpoint(folder / kind / f"rank_{rank}.pt")
            model = segmenter().double()
            model.load_state_dict(evidence["state_dict"])
            terms, _ = rerun(stored_step(evidence, model.train(), nullcontext))
            assert evidence["terms"] == pytest.approx(terms, nan_ok=True)
