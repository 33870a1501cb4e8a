"""Whatever a network or a run consists of, divided weights train as with DDP."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from densekit.artifact import read_checkpoint
from densekit.backbones import ResNet, TimmBackbone
from densekit.model import DenseModel
from densekit.ops import dist
from densekit.testing import run_distributed
from densekit.training import Ema, NonFinite, NonFiniteLossError, Transfer, module
from densekit.training.balance import UncertaintyBalance
from densekit.training.evidence import stored_step
from densekit.training.step import rerun
from tests.ddp.fsdp_runs import data_of, lit_of, run_of, segmenter, whole

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

ADAMW = partial(torch.optim.AdamW, lr=1e-3)


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
                self.num_batches_tracked += 1
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


BF16 = "bf16-mixed"
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
    BF16: (segmenter, {}),
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
    steps: dict[str, Any] = {"accumulate_grad_batches": 1, "sync_batchnorm": name == SYNCED}
    if name == BF16:
        lit.float()
        steps |= {"precision": BF16}
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
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fsdp")


@pytest.fixture(scope="module")
def pairs(folder: Path) -> list[dict[str, Any]]:
    """What both strategies lead to in each variant, in every process."""
    return run_distributed(variants, 2, folder)


@pytest.mark.parametrize("name", [*VARIANTS, "skipped loss", "skipped gradient"])
def test_variants_train_as_with_ddp(name: str, pairs: list[dict[str, Any]]) -> None:
    weights, metrics = (1e-3, 1e-2) if name == BF16 else (1e-11, 1e-6)
    for found in pairs:
        ddp, fsdp = found[name]
        assert ddp.keys() == fsdp.keys()
        for key, value in ddp.items():
            atol = metrics if key.startswith("val/") else weights
            torch.testing.assert_close(fsdp[key], value, rtol=0, atol=atol, equal_nan=True)


def test_synchronised_batch_norm_is_that_of_one_process(
    folder: Path, pairs: list[dict[str, Any]]
) -> None:
    alone = train_variant(folder, SYNCED, "auto")
    for found in pairs:
        assert found[SYNCED].keys() == alone.keys()
        for key, value in alone.items():
            atol = 1e-6 if key.startswith("val/") else 1e-11
            torch.testing.assert_close(found[SYNCED][key], value, rtol=0, atol=atol, equal_nan=True)


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
