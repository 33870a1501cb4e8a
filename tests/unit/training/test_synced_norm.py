"""Synchronised norms compute what the norms did that they replace, activations included."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn

from densekit import DenseModel
from densekit.backbones import TimmBackbone, resnet18
from densekit.heads import Classification, SmpHead
from densekit.training.synced_norm import SyncedNorms
from tests.unit.training.fakes import fake_lit

NETWORKS = {
    "plain": partial(resnet18, width=8),
    "mobilenet": partial(TimmBackbone, "mobilenetv3_small_050"),
    "regnet": partial(TimmBackbone, "regnetx_002"),
    "resnet": partial(TimmBackbone, "resnet10t"),
    "lcnet": partial(TimmBackbone, "lcnet_035"),
}


@pytest.fixture(autouse=True)
def _two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densekit.training.synced_norm.dist.world_size", lambda: 2)


def made(name: str) -> DenseModel:
    heads = {"kind": partial(Classification, num_classes=3)}
    return DenseModel(NETWORKS[name](), heads)


def answer(model: nn.Module) -> Tensor:
    image = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255
    logits: Tensor = model(image, torch.tensor([[64, 64]] * 4))["kind"]["logits"]
    return logits


def norms(model: nn.Module) -> set[type]:
    kind = nn.modules.batchnorm._BatchNorm
    return {type(module) for module in model.modules() if isinstance(module, kind)}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_stay_there_and_back(name: str, training: bool) -> None:
    model = made(name).train()
    with torch.no_grad():
        answer(model)  # statistics that are not those of the start
        model.train(training)
        kinds, keys = norms(model), list(model.state_dict())
        expected = answer(copy.deepcopy(model))
        plugin = SyncedNorms()
        synced = plugin.apply(model)
        assert all(issubclass(kind, nn.SyncBatchNorm) for kind in norms(synced))
        assert list(synced.state_dict()) == keys
        assert torch.equal(answer(synced), expected)
        moved = {key: value.clone() for key, value in synced.state_dict().items()}
        reverted = plugin.revert(synced)
        assert norms(reverted) == kinds
        assert all(torch.equal(moved[key], v) for key, v in reverted.state_dict().items())
        assert all(module.training == training for module in reverted.modules())


def test_norms_on_another_device_come_back_from_there() -> None:
    model, plugin = nn.Sequential(nn.BatchNorm1d(2), nn.SyncBatchNorm(2)), SyncedNorms()
    plugin.revert(plugin.apply(model).double())
    assert [type(module) for module in model] == [nn.BatchNorm1d, nn.SyncBatchNorm]
    assert {value.dtype for value in model.state_dict().values()} == {torch.float64, torch.int64}


def test_decoders_of_smp_can_be_synchronised() -> None:
    head = SmpHead(resnet18(width=8).features, 2, "pspnet")
    assert norms(SyncedNorms().apply(head)) == {nn.SyncBatchNorm}


class Scaled(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class SyncedScaled(nn.SyncBatchNorm):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


class Named(Scaled):
    synced = SyncedScaled


def test_a_norm_that_computes_more_is_refused_or_says_what_replaces_it() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Sequential(Scaled(2)))
    with pytest.raises(ValueError, match="trainer.sync_batchnorm: .*got 1.0 of class Scaled"):
        SyncedNorms().apply(model)
    assert norms(model) == {nn.BatchNorm2d, Scaled}
    assert norms(SyncedNorms().apply(nn.Sequential(Named(2)))) == {SyncedScaled}


def test_one_process_keeps_its_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densekit.training.synced_norm.dist.world_size", lambda: 1)
    assert norms(SyncedNorms().apply(nn.Sequential(nn.BatchNorm2d(2)))) == {nn.BatchNorm2d}


@pytest.mark.parametrize(("asked", "expected"), [(True, SyncedNorms), (False, type(None))])
def test_the_trainer_takes_it(asked: bool, expected: type) -> None:
    lit: Any = fake_lit()
    lit.trainer = L.Trainer(
        accelerator="cpu", devices=1, strategy="ddp", sync_batchnorm=asked, logger=False
    )
    assert isinstance(lit.trainer.strategy._layer_sync, TorchSyncBatchNorm) is asked
    lit.configure_model()
    assert isinstance(lit.trainer.strategy._layer_sync, expected)
