"""The decoders of segmentation-models-pytorch on our levels.

Shape letters: B images, C channels, K classes, s the sizes of a level.
"""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit._names import check_keys, choose
from densekit.heads.segmentation.base import Segmentation
from densekit.types import Features, FeatureSpec

WIDTHS = (256, 128, 64, 32, 16)
DERIVED = ("encoder_channels", "encoder_depth", "n_blocks", "in_channels", "output_stride")
"""Arguments of decoders that follow from the levels."""
PROBE = 8
"""Side of the deepest level when a decoder is asked for its output."""


@dataclass(frozen=True)
class Decoder:
    """What there is to know of a decoder beside its signature.

    Attributes:
        place: Module and class below `segmentation_models_pytorch.decoders`.
        kernel_size: Of the convolution that makes the logits.
        depth: Number of the deepest level read, where the caller does not say.
        least: Side that the deepest level must have at least.
        defaults: Settings that smp's model has a default for and its decoder has not.
    """

    place: str
    kernel_size: int = 3
    depth: int = 5
    least: int = 1
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
    "pan": Decoder("pan.decoder.PANDecoder", least=8, defaults={"decoder_channels": 32}),
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

    Channels and strides come from the specs; images are padded to what the decoder can take. Tensor
    for tensor smp's `decoder.*` and `segmentation_head.0.*`, but for what its decoder has and never
    runs (the attention of a block without a skip): that is left out here, and where it is loaded.

    Args:
        specs: Of all levels there could be; pictures only.
        num_classes: K.
        decoder: A name of `DECODERS`: unet, unetplusplus, manet, linknet, fpn, pspnet, pan,
            upernet, segformer, deeplabv3 or deeplabv3plus.
        depth: Number of the deepest level read, 3 to 5; the decoder's own by default.
        multilabel: See `Segmentation`.
        losses: See `Segmentation`.
        loss_weights: See `Segmentation`.
        settings: Arguments of the decoder's class, e.g. `decoder_channels` or `dropout`.

    Attributes:
        unused: Prefixes of the names that are left out.

    Raises:
        ValueError: An unknown decoder, setting or level, or levels the decoder cannot join.
    """

    align_corners: ClassVar[bool] = True

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
        **settings: Any,
    ) -> None:
        super().__init__(
            num_classes, multilabel=multilabel, losses=losses, loss_weights=loss_weights
        )
        kind = choose("decoder", decoder, DECODERS)
        self.decoder_name, self.least = decoder, kind.least
        self.reads = _levels(specs, kind.depth if depth is None else depth)
        levels = [specs[name] for name in self.reads]
        self.size_divisor = 1 if decoder == "unet" else max(levels[-1].stride)
        make = _decoder_class(kind.place)
        self.decoder = make(**_arguments(make, kind, levels, settings))
        _accept_one_value(self.decoder)
        channels = _out_channels(decoder, self.decoder, levels)
        self.unused = _drop_unused(self.decoder, levels)
        self.register_load_state_dict_pre_hook(_without_unused)  # type: ignore[no-untyped-call]
        convolution = nn.Conv2d(
            channels, num_classes, kind.kernel_size, padding=kind.kernel_size // 2
        )
        self.segmentation_head = nn.Sequential(convolution)
        initialise = importlib.import_module("segmentation_models_pytorch.base.initialization")
        initialise.initialize_decoder(self.decoder)
        initialise.initialize_head(self.segmentation_head)

    @classmethod
    def passed_on(cls, node: Mapping[str, Any]) -> list[str]:
        """Names of the `settings` that a configuration may have.

        Args:
            node: The other arguments; where `decoder` is an interpolation or missing, the settings
                of every decoder are named, and a wrong one is found when the head is built.

        Raises:
            ValueError: An unknown decoder.
        """
        decoder = str(node.get("decoder") or "${}")
        kinds = list(DECODERS.values())
        if not decoder.startswith("${"):
            kinds = [choose("decoder", decoder, DECODERS)]
        return [name for kind in kinds for name in _settings(_decoder_class(kind.place))]

    def low_resolution(self, features: Features) -> Tensor:
        """Logits (B, K, *s) at the stride the decoder ends with, 1 to 8."""
        levels = [features[name] for name in self.reads]
        if min(levels[-1].shape[2:]) < self.least:
            raise ValueError(
                f"decoder {self.decoder_name!r}: found {tuple(levels[-1].shape[2:])} pixels in "
                f"{self.reads[-1]}, accepted are {self.least} a side or more: larger images, or a "
                "smaller backbone.output_stride"
            )
        logits: Tensor = self.segmentation_head(self.decoder(levels))
        return logits


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that uses the stored statistics where the batch has one value a channel.

    Pooled branches of a batch of one image: batch statistics of one value are nothing.

    Attributes:
        synced: What takes its place where processes share statistics: they have more values.
    """

    synced = nn.SyncBatchNorm

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to the same shape."""
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


def _accept_one_value(decoder: nn.Module) -> None:
    for module in list(decoder.modules()):
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, BatchNorm(child.num_features, child.eps, child.momentum))


def _levels(specs: Mapping[str, FeatureSpec], depth: int) -> tuple[str, ...]:
    if specs["c0"].spatial_dims != 2:
        raise ValueError(
            f"SmpHead: found {specs['c0'].spatial_dims} spatial dimensions, accepted are 2; UNet "
            "has any"
        )
    deepest = max(int(level[1:]) for level in specs if level.startswith("c"))
    if not 3 <= depth <= deepest:
        raise ValueError(f"depth: found {depth}, accepted are 3 to {deepest}")
    levels = tuple(f"c{number}" for number in range(depth + 1))
    for level in levels:
        if level not in specs:
            raise ValueError(
                f"SmpHead: it joins every level from c0 on, the backbone has no {level} but "
                f"{', '.join(specs)}; UNet joins what there is"
            )
    return levels


def _decoder_class(place: str) -> Callable[..., nn.Module]:
    module, _, name = place.rpartition(".")
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
    """Defaults, the caller's settings, and what follows from the levels."""
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


def _probed(decoder: nn.Module, levels: Sequence[FeatureSpec]) -> tuple[nn.Module, Tensor]:
    """A copy of a decoder without values, and its output."""
    probe = copy.deepcopy(decoder).to("meta", torch.float32).eval()
    side = PROBE * max(levels[-1].stride)
    maps = [
        torch.empty(1, level.channels, *(side // step for step in level.stride), device="meta")
        for level in levels
    ]
    return probe, probe(maps)


def _drop_unused(decoder: nn.Module, levels: Sequence[FeatureSpec]) -> tuple[str, ...]:
    """Takes out the modules that no output depends on; returns the prefixes of their names."""
    with torch.enable_grad():
        probe, output = _probed(decoder, levels)
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
    """Leaves out of what is loaded what the head has left out."""
    for name in list(state_dict):
        if name.startswith(tuple(prefix + unused for unused in head.unused)):
            del state_dict[name]


@torch.no_grad()
def _out_channels(name: str, decoder: nn.Module, levels: Sequence[FeatureSpec]) -> int:
    """Channels that the decoder returns, found by a forward without values."""
    try:
        channels: int = _probed(decoder, levels)[1].shape[1]
    except RuntimeError as error:
        raise ValueError(
            f"decoder {name!r}: found levels of strides {[level.stride for level in levels]} and "
            f"{[level.channels for level in levels]} channels, which it cannot join ({error}); most"
            " decoders accept backbone.stem=imagenet and output_stride=32, deeplabv3plus "
            "output_stride=16 or 8, attention at least 16 channels"
        ) from error
    return channels
