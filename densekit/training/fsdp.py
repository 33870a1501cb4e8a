"""Divides weights, gradients and the optimiser's state over processes: `trainer.strategy=fsdp`.

Paper: PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel, sections 3.1 and 3.2.
Checkpoints hold whole tensors, as those of one process do: any command and any number of processes
can read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn
from torch._C._distributed_c10d import _broadcast_coalesced
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import _get_default_group
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

from densekit.ops import dist
from densekit.training.ema import Ema
from densekit.training.fsdp_units import units_of
from densekit.training.sharding import sharded_modules
from densekit.training.signal_propagation import SignalFile

BUCKET_BYTES = 2**28
"""Most bytes of buffers that are sent at once."""
KERNELS = ("foreach", "fused")
"""Settings of an optimiser that depend on how its parameters are stored."""
COPYING = (SignalFile, StochasticWeightAveraging, WeightAveraging)
"""Callbacks that copy the network; `Ema` divides its copy."""


class Fsdp(DDPStrategy):
    """Trains a `LitModel` of which every process holds a part; `fsdp_units` says what is gathered.

    An evaluation gathers all weights once per batch, so that processes may call the network as
    often as their images need. Buffers (statistics of batch norms) are whole in every process; as
    with DDP those of the first process are evaluated and saved, unless batch norm is synchronised.
    """

    def setup(self, trainer: Trainer) -> None:
        """Sets up a run; an evaluation after a training keeps the weights divided."""
        if trainer.state.fn == TrainerFn.FITTING or not self._units():
            super().setup(trainer)
        else:
            self.setup_precision_plugin()

    def configure_ddp(self) -> None:
        """Divides the module, in place of wrapping it for DDP.

        Raises:
            ValueError: Something of this run cannot be divided, see `check_fsdp`.
        """
        lit: Any = self.lightning_module
        trainer = lit.trainer
        check_fsdp(lit.model, trainer.callbacks, str(trainer.precision), compiled=lit.is_compiled)
        self.divide(lit)
        # In the order of the whole tree: evaluations call parts of it first.
        lit._get_fsdp_state()._lazy_init()
        register_fsdp_forward_method(lit, "total")

    def divide(self, lit: nn.Module) -> None:
        """Divides the parameters of a `LitModel` over all processes, in place.

        Args:
            lit: Each process has the same values, on the device of the run.
        """
        model: Any = lit.model
        if any(not parameter.is_contiguous() for parameter in lit.parameters()):
            # Parts are rows of memory. The layout of the image chooses that of the maps, too.
            model.backbone.register_forward_pre_hook(_channels_last)
        for parameter in lit.parameters():
            parameter.data = parameter.data.contiguous()
        for unit in units_of(model):
            unit.register_forward_hook(_without_views)
            fully_shard(unit, mesh=self._mesh)
        fully_shard(lit, mesh=self._mesh, reshard_after_forward=False)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Context in which every process has all weights and can compute without the others.

        All processes must enter it together. State dicts are taken outside.
        """
        units = self._units()
        with torch.inference_mode(False):  # training uses the same memory
            for unit in units:
                unit.unshard()
        for unit in units:
            unit.set_reshard_after_forward(False, recurse=False)
            unit.set_reshard_after_backward(False, recurse=False)
        try:
            yield
        finally:
            for number, unit in enumerate(units):
                unit.reshard()
                unit.set_reshard_after_forward(number > 0, recurse=False)
                unit.set_reshard_after_backward(True, recurse=False)

    def validation_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Evaluates a batch with all weights."""
        self._share_buffers()
        with self.gathered():
            return super().validation_step(*args, **kwargs)

    def test_step(self, *args: Any, **kwargs: Any) -> STEP_OUTPUT:
        """Evaluates a batch with all weights."""
        self._share_buffers()
        with self.gathered():
            return super().test_step(*args, **kwargs)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Gathers every tensor, one after the other, in the first process, which writes them."""
        whole = tree_map(_for_first, checkpoint)
        super().save_checkpoint(whole, filepath, storage_options)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Loads whole tensors; each process keeps its part."""
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        parts = {
            name: _part(value, own[name]) if name in own else value
            for name, value in checkpoint["state_dict"].items()
        }
        self.lightning_module.load_state_dict(parts, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Loads whole tensors; each process keeps its part."""
        pairs = zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        states = [_parts_of_state(optimizer, saved) for optimizer, saved in pairs]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": states})

    def teardown(self) -> None:
        """Leaves divided weights on their device, where they are evaluated after the training."""
        if not self._units():
            super().teardown()
            return
        assert self.accelerator is not None
        self.precision_plugin.teardown()
        self.accelerator.teardown()
        self.checkpoint_io.teardown()

    @cached_property
    def _mesh(self) -> DeviceMesh:
        return init_device_mesh(self.root_device.type, (self.world_size,))

    def _units(self) -> list[FSDPModule]:
        """The modules whose weights are gathered as one, the root first; none if nothing is."""
        modules = [] if self.lightning_module is None else self.lightning_module.modules()
        return [unit for unit in modules if isinstance(unit, FSDPModule)]

    def _share_buffers(self) -> None:
        """Gives every process the buffers of the first, as DDP does before a forward pass."""
        if self.lightning_module is not None and self._units():
            buffers = list(self.lightning_module.buffers())
            _broadcast_coalesced(_get_default_group(), buffers, BUCKET_BYTES, 0)


def check_fsdp(
    model: nn.Module | None, callbacks: Iterable[Callback], precision: str, *, compiled: bool
) -> None:
    """Refuses what does not work with weights that are divided over processes.

    Args:
        model: Not divided yet; None if it cannot be built on trial.
        callbacks: Of the trainer.
        precision: Of the trainer.
        compiled: Whether the loss is compiled.

    Raises:
        ValueError: Names the first setting that has to change.
    """
    beside = "with trainer.strategy=fsdp, got"
    if precision.startswith("16"):
        raise ValueError(f"precision: expected bf16-mixed or 32-true {beside} {precision}")
    if compiled:
        raise ValueError(f"training.compile: expected false {beside} true")
    for callback in callbacks:
        if isinstance(callback, COPYING) and not isinstance(callback, Ema):
            name = type(callback).__name__
            raise ValueError(f"callbacks: expected none that copies the network {beside} {name}")
    if model is None:
        return
    if names := sharded_modules(model):
        raise ValueError(
            f"trainer.strategy: expected ddp with {next(iter(names))}, which divides its own"
            " weights, got fsdp"
        )
    if scalar := next((name for name, p in model.named_parameters() if p.ndim == 0), None):
        raise ValueError(
            f"trainer.strategy: expected ddp with the parameter {scalar}, which has no axis to"
            " divide, got fsdp; a shape of (1,) has one"
        )


def _channels_last(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Forward pre-hook that converts images (B, C, *S) to the channels-last layout."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    (image,) = inputs
    return (image.to(memory_format=formats.get(image.ndim, torch.preserve_format)),)


def _without_views(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Forward hook that copies views: changed in place, they would not gather the weights again."""
    return tree_map(lambda x: x.clone() if isinstance(x, Tensor) and x._is_view() else x, output)


def _for_first(value: Any) -> Any:
    """The whole of a divided tensor in the first process, None in the others."""
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.cpu() if dist.rank() == 0 else None


def _part(whole: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that all of them have, divided as another one is."""
    if not isinstance(like, DTensor):
        return whole
    moved = whole.to(like.device).contiguous()
    return distribute_tensor(moved, like.device_mesh, like.placements, src_data_rank=None)


def _parts_of_state(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """This process's part of an optimiser's state dict with whole tensors, for its own kernels."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def part(parameter: Tensor, value: Any) -> Any:
        of_parameter = isinstance(value, Tensor) and value.shape == parameter.shape
        return _part(value, parameter) if of_parameter else value

    state = {
        index: {key: part(parameters[index], value) for key, value in of_parameter.items()}
        for index, of_parameter in saved["state"].items()
    }
    kernels = ({key: g[key] for key in KERNELS if key in g} for g in optimizer.param_groups)
    groups = [{**old, **own} for old, own in zip(saved["param_groups"], kernels, strict=True)]
    return {**saved, "state": state, "param_groups": groups}
