"""Decoders of segmentation-models-pytorch on densekit's levels.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit._names import check_keys, choose
from densekit.heads.segmentation.base import Segmentation
from densekit.types import Decision, Features, FeatureSpec

WIDTHS = (256, 128, 64, 32, 16)
DERIVED = ("encoder_channels", "encoder_depth", "n_blocks", "in_channels", "output_stride")
"""Arguments of decoders that are derived from the levels."""
PROBE = 8
"""Side of the deepest level when a decoder is run for its output shape."""


@dataclass(frozen=True)
class Decoder:
    """Properties of a decoder that its signature does not show.

    Attributes:
        path: Module and class below `segmentation_models_pytorch.decoders`.
        kernel_size: Kernel size of the convolution that makes the logits.
        depth: Default number of the deepest level read.
        min_side: Smallest side of the deepest level.
        defaults: Settings that have a default in smp's model but not in its decoder.
    """

    path: str
    kernel_size: int = 3
    depth: int = 5
    min_side: int = 1
    defaults: Mapping[str, Any] = field(default_factory=dict)


_ATROUS = {"out_channels": 256, "atrous_rates": (12, 24, 36), "aspp_dropout": 0.5}
_BLOCKS = {"decoder_channels": WIDTHS}
DECODERS = {
    "unet": Decoder("unet.decoder.UnetDecoder", defaults=_BLOCKS),
    "unetplusplus": Decoder("unetplusplus.decoder.UnetPlusPlusDecoder", defaults=_BLOCKS),
    "manet": Decoder("manet.decoder.MAnetDecoder", defaults=_BLOCKS),
    "linknet": Decoder("linknet.decoder.LinknetDecoder", kernel_size=1),
    "fpn": Decoder("fpn.decoder.FPNDecoder", kernel_size=1),
    "pspnet": Decoder("pspnet.decoder.PSPDecoder", depth=3),
    "pan": Decoder("pan.decoder.PANDecoder", min_side=8, defaults={"decoder_channels": 32}),
    "upernet": Decoder("upernet.decoder.UPerNetDecoder", kernel_size=1),
    "segformer": Decoder("segformer.decoder.SegformerDecoder", kernel_size=1),
    "deeplabv3": Decoder(
        "deeplabv3.decoder.DeepLabV3Decoder",
        kernel_size=1,
        defaults={**_ATROUS, "aspp_separable": False},
    ),
    "deeplabv3plus": Decoder(
        "deeplabv3.decoder.DeepLabV3PlusDecoder",
        kernel_size=1,
        defaults={**_ATROUS, "aspp_separable": True},
    ),
}


class SmpHead(Segmentation):
    """A decoder of segmentation-models-pytorch and the convolution that makes its logits.

    Channels and strides come from the specs; images are padded to a size the decoder accepts.
    Tensor for tensor smp's `decoder.*` and `segmentation_head.0.*`, except for modules that smp's
    decoder has but never runs (the attention of a block without a skip): they are left out, also of
    weights that are loaded.

    Args:
        specs: Specs of all available levels; 2-D only.
        num_classes: K.
        decoder: A name of `DECODERS`: unet, unetplusplus, manet, linknet, fpn, pspnet, pan,
            upernet, segformer, deeplabv3 or deeplabv3plus.
        depth: Number of the deepest level read, 3 to 5; the decoder's default if None.
        multilabel: See `Segmentation`.
        losses: See `Segmentation`.
        loss_weights: See `Segmentation`.
        threshold: See `Segmentation`.
        settings: Arguments of the decoder's class, e.g. `decoder_channels` or `dropout`.

    Attributes:
        unused: Prefixes of the tensor names that are left out.

    Raises:
        ValueError: An unknown decoder, setting or level, or levels the decoder cannot combine.
    """

    def __init__(
        self,
        specs: Mapping[str, FeatureSpec],
        num_classes: int,
        decoder: str,
        *,
        depth: int | None = None,
        multilabel: bool = False,
        losses: Mapping[str, Callable[[Tensor, Tensor], Tensor]] | None = None,
        loss_weights: Mapping[str, float] | None = None,
        threshold: Decision | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            num_classes,
            multilabel=multilabel,
            losses=losses,
            loss_weights=loss_weights,
            align_corners=True,
            threshold=threshold,
        )
        kind = choose("decoder", decoder, DECODERS)
        self.decoder_name, self.min_side = decoder, kind.min_side
        self.reads = _levels(specs, kind.depth if depth is None else depth)
        levels = [specs[name] for name in self.reads]
        self.size_divisor = 1 if decoder == "unet" else max(levels[-1].stride)
        make = _decoder_class(kind.path)
        self.decoder = make(**_arguments(make, kind, levels, settings))
        _accept_single_values(self.decoder)
        probe, output = _probed(decoder, self.decoder, levels)
        self.unused = _drop_unused(self.decoder, probe, output)
        self.register_load_state_dict_pre_hook(_without_unused)  # type: ignore[no-untyped-call]
        convolution = nn.Conv2d(
            output.shape[1], num_classes, kind.kernel_size, padding=kind.kernel_size // 2
        )
        self.segmentation_head = nn.Sequential(convolution)
        initialise = importlib.import_module("segmentation_models_pytorch.base.initialization")
        initialise.initialize_decoder(self.decoder)
        initialise.initialize_head(self.segmentation_head)

    @classmethod
    def passed_on(cls, node: Mapping[str, Any]) -> list[str]:
        """Returns the names of the `settings` that a configuration may contain.

        Args:
            node: The other arguments; if `decoder` is an interpolation or missing, the settings of
                all decoders are returned, and a wrong one is found when the head is built.

        Raises:
            ValueError: An unknown decoder.
        """
        decoder = str(node.get("decoder") or "${}")
        kinds = list(DECODERS.values())
        if not decoder.startswith("${"):
            kinds = [choose("decoder", decoder, DECODERS)]
        return [name for kind in kinds for name in _settings(_decoder_class(kind.path))]

    def low_resolution(self, features: Features) -> Tensor:
        """Returns logits (B, K, *s) at the decoder's output stride, 1 to 8."""
        levels = [features[name] for name in self.reads]
        if min(levels[-1].shape[2:]) < self.min_side:
            raise ValueError(
                f"decoder {self.decoder_name!r}: expected at least {self.min_side} pixels per side"
                f" in {self.reads[-1]}, got {tuple(levels[-1].shape[2:])}; use larger images or a"
                " smaller backbone.output_stride"
            )
        logits: Tensor = self.segmentation_head(self.decoder(levels))
        return logits


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that uses its running statistics if the batch has a single value per channel.

    That happens in the pooled branch of a batch of one image; a single value has no variance.

    Attributes:
        synced: The class that replaces it if processes share statistics: they have more values.
    """

    synced = nn.SyncBatchNorm

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


def _accept_single_values(decoder: nn.Module) -> None:
    """Replaces batch norms by those that accept a single value per channel."""
    for module in list(decoder.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, BatchNorm(child.num_features, child.eps, child.momentum))


def _levels(specs: Mapping[str, FeatureSpec], depth: int) -> tuple[str, ...]:
    if specs["c0"].spatial_dims != 2:
        raise ValueError(
            f"SmpHead: expected 2 spatial dimensions, got {specs['c0'].spatial_dims}; UNet takes "
            "any"
        )
    deepest = max(int(level[1:]) for level in specs if level.startswith("c"))
    if not 3 <= depth <= deepest:
        raise ValueError(f"depth: expected 3 to {deepest}, got {depth}")
    levels = tuple(f"c{number}" for number in range(depth + 1))
    for level in levels:
        if level not in specs:
            raise ValueError(
                f"SmpHead: expected every level from c0 to c{depth}, got no {level} but "
                f"{', '.join(specs)}; UNet takes the levels there are"
            )
    return levels


def _decoder_class(path: str) -> Callable[..., nn.Module]:
    module, _, name = path.rpartition(".")
    made: Callable[..., nn.Module] = getattr(
        importlib.import_module(f"segmentation_models_pytorch.decoders.{module}"), name
    )
    return made


def _settings(make: Callable[..., nn.Module]) -> list[str]:
    return [name for name in inspect.signature(make).parameters if name not in DERIVED]


def _arguments(
    make: Callable[..., nn.Module],
    kind: Decoder,
    levels: Sequence[FeatureSpec],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The decoder's arguments: derived from the levels, defaults, and the caller's settings."""
    parameters = _settings(make)
    check_keys("decoder", settings, parameters)
    depth, channels = len(levels) - 1, [level.channels for level in levels]
    ratio = levels[-1].stride[0] // levels[2].stride[0]
    derived = {
        "encoder_channels": channels,
        "encoder_depth": depth,
        "n_blocks": depth,
        "in_channels": channels[-1],
        "output_stride": 16 if ratio == 4 else 8,  # it upsamples to c2 by 4 or by 2
    }
    defaults = dict(kind.defaults)
    if isinstance(defaults.get("decoder_channels"), tuple):
        defaults["decoder_channels"] = WIDTHS[-depth:]
    wanted = inspect.signature(make).parameters
    return {k: v for k, v in derived.items() if k in wanted} | defaults | dict(settings)


@torch.enable_grad()
def _probed(
    name: str, decoder: nn.Module, levels: Sequence[FeatureSpec]
) -> tuple[nn.Module, Tensor]:
    """A copy of a decoder on the meta device, and its output with the graph of how it was made."""
    probe = copy.deepcopy(decoder).to("meta", torch.float32).eval()
    side = PROBE * max(levels[-1].stride)
    maps = [
        torch.empty(1, level.channels, *(side // step for step in level.stride), device="meta")
        for level in levels
    ]
    try:
        return probe, probe(maps)
    except RuntimeError as error:
        raise ValueError(
            f"decoder {name!r}: expected levels it can combine, got strides "
            f"{[level.stride for level in levels]} and {[level.channels for level in levels]} "
            f"channels ({error}); most decoders accept backbone.stem=imagenet and "
            "output_stride=32, deeplabv3plus output_stride=16 or 8, attention at least 16 channels"
        ) from error


@torch.enable_grad()
def _drop_unused(decoder: nn.Module, probe: nn.Module, output: Tensor) -> tuple[str, ...]:
    """Removes the modules that the output does not depend on; returns their name prefixes."""
    named = dict(probe.named_parameters())
    gradients = torch.autograd.grad(output.sum(), list(named.values()), allow_unused=True)
    idle = {name for name, grad in zip(named, gradients, strict=True) if grad is None}
    dropped: list[str] = []
    for prefix, module in list(decoder.named_modules()):
        names = {f"{prefix}.{name}" for name, _ in module.named_parameters()}
        inside = any(prefix.startswith(f"{above}.") for above in dropped)
        if prefix and names and names <= idle and not inside:
            parent, _, child = prefix.rpartition(".")
            setattr(decoder.get_submodule(parent), child, nn.Identity())
            dropped.append(prefix)
    return tuple(f"decoder.{prefix}." for prefix in dropped)


def _without_unused(
    head: SmpHead, state_dict: dict[str, Tensor], prefix: str, *others: object
) -> None:
    """Removes from a state dict the tensors of modules that the head has left out."""
    for name in list(state_dict):
        if name.startswith(tuple(prefix + unused for unused in head.unused)):
            del state_dict[name]
