"""Converts batch norms to synchronised ones without losing what subclasses add.

torch's own conversion keeps only the normalisation of a subclass with its own forward, such as
timm's `BatchNormAct2d`, whose activation it drops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from densekit.ops import dist

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

STATE = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class SyncedNorms(LayerSync):
    """Converts batch norms for `trainer.sync_batchnorm`, in place of Lightning's conversion."""

    def __init__(self) -> None:
        self._originals: dict[str, _BatchNorm] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Replaces batch norms by synchronised ones that share their tensors.

        With a single process the model is left unchanged.

        Raises:
            ValueError: A batch norm has a forward of its own that cannot be synchronised; nothing
                is changed then.
        """
        if dist.world_size() == 1:
            return model
        norms = {
            name: module
            for name, module in model.named_modules(remove_duplicate=False)
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm)
        }
        made = {name: _synced(name, norm) for name, norm in norms.items()}
        for name, norm in made.items():
            _put(model, name, norm)
        self._originals = norms
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Puts the original norms back, with the learned tensors."""
        for name, norm in self._originals.items():
            _share(norm, cast(_BatchNorm, model.get_submodule(name)))
            _put(model, name, norm)
        self._originals = {}
        return model


def use_synced_norms(trainer: Trainer) -> None:
    """Makes a trainer with `sync_batchnorm=True` convert norms by `SyncedNorms`."""
    strategy: Any = trainer.strategy
    if isinstance(getattr(strategy, "_layer_sync", None), TorchSyncBatchNorm):
        strategy._layer_sync = SyncedNorms()


def _synced(name: str, norm: _BatchNorm) -> nn.SyncBatchNorm:
    """Builds a synchronised norm with the tensors and settings of `norm`."""
    make = _synced_class(type(norm))
    if make is None:
        raise ValueError(
            f"trainer.sync_batchnorm: expected batch norms of torch or timm, got {name} of class "
            f"{type(norm).__name__}, which computes more than that; the class can name its "
            "replacement, `synced = MySyncBatchNorm`"
        )
    synced = make(norm.num_features, norm.eps, cast(float, norm.momentum))
    synced.affine, synced.track_running_stats = norm.affine, norm.track_running_stats
    for child, module in norm.named_children():  # an activation
        synced.add_module(child, module)
    _share(synced, norm)
    return synced


def _synced_class(norm: type[_BatchNorm]) -> type[nn.SyncBatchNorm] | None:
    if norm.forward is _BatchNorm.forward:
        return nn.SyncBatchNorm
    if norm.__module__.startswith("timm.") and norm.__name__ == "BatchNormAct2d":
        from timm.layers.norm_act import SyncBatchNormAct

        timms: type[nn.SyncBatchNorm] = SyncBatchNormAct
        return timms
    return getattr(norm, "synced", None)


def _share(norm: _BatchNorm, source: _BatchNorm) -> None:
    """Gives `norm` the tensors and the mode of `source`."""
    for key in STATE:
        setattr(norm, key, getattr(source, key))
    norm.training = source.training


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
