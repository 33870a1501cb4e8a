"""Backbones from timm: any network that supports `features_only`."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any, Self

import torch
from torch import Tensor, nn

from densekit._names import nearest
from densekit.backbones.base import Backbone, Statistics
from densekit.backbones.staged import levels_behind
from densekit.backbones.weights import load_weights, read_weights, statistics_of
from densekit.types import Features, FeatureSpec

OTHER = "use another network"

STEM_STRIDE = 2
"""timm lists the stem before the stages if its stride is at most this."""


class TimmBackbone(Backbone):
    """The levels that timm's `features_only` returns, with timm's tensor names (`model.*`).

    The number of a level is its stage, as everywhere. A network whose first map is at stride 1 or 2
    has a c1; one that begins with patches of 4 pixels (ConvNeXt, Swin) has c2 to c5 at strides 4 to
    32. `DenseModel` pads images to the largest stride, because many networks crop the remainder.

    Pretrained weights have a mean and std of their own (`statistics`), to which `mean` and `std` of
    the data set (in Python: of `DenseModel`'s info) must be set; `DenseModel` warns if they differ.

    Args:
        name: timm's name of the network, with or without the tag of its weights.
        pretrained: Whether to load timm's weights.
        weights: Other weights of the whole network by timm's names: `pip:PACKAGE` (`densekit
            backbones` lists them), path of a file, or URL with its hash; see `ResNet`.
        in_channels: Channels of the image.
        output_stride: A stage that would exceed this stride is dilated instead, if the network
            supports it; None keeps its stride.
        freeze_stages: Number of levels, from the first on, whose weights and statistics are kept
            fixed, with all layers before them.
        settings: Further arguments of `timm.create_model`, e.g. `drop_path_rate`, `out_indices`
            (which maps) or `img_size` (of transformers).

    Attributes:
        size_divisor: The largest stride.
        only: Height and width of the images if the network takes a single size; None for any.

    Raises:
        ValueError: The name is unknown, or the network cannot return its inner maps, or returns
            shapes other than timm declares (networks without padding do), or the weights do not
            fit.
        TypeError: The network does not take one of the settings.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool = False,
        weights: str | PathLike[str] | None = None,
        in_channels: int = 3,
        output_stride: int | None = None,
        freeze_stages: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if pretrained and weights is not None:
            raise ValueError(f"weights: expected none with pretrained=true, got {fspath(weights)}")
        given = {} if output_stride is None else {"output_stride": output_stride}
        given = {"in_chans": in_channels, **given, **(settings or {})}
        made = _create(name, pretrained=pretrained, **given)
        self.name = name
        self.model: nn.Module = made.model
        strides = made.feature_info.reduction()
        first = 1 if strides[0] <= STEM_STRIDE else 2
        levels = [f"c{number}" for number in range(first, first + len(strides))]
        self.features = {"c0": FeatureSpec(in_channels, (1, 1))}
        channels = made.feature_info.channels()
        for level, width, stride in zip(levels, channels, strides, strict=True):
            self.features[level] = FeatureSpec(width, (stride, stride))
        self.indices = dict(zip(levels, made.out_indices, strict=True))
        with torch.device("meta"):  # shapes alone
            shapes = _create(name, **given).model.eval()
        self.only = _only_size(name, shapes, self.features, self.indices, made.pretrained_cfg)
        if pretrained:
            self.statistics = _statistics(made.pretrained_cfg)
        if weights is not None:
            self._load(weights, made.pretrained_cfg, given)
        self.frozen = self._freeze(freeze_stages)
        self.train()

    @property
    def size_divisor(self) -> int:  # type: ignore[override]
        """The sides of an image must be multiples of this."""
        return max(max(spec.stride) for spec in self.features.values())

    def forward(self, x: Tensor) -> Features:
        """Maps an image (B, C, H, W) to its levels.

        Raises:
            ValueError: The network takes a single image size, and this image has another.
        """
        if self.only is not None and tuple(x.shape[2:]) != self.only:
            raise ValueError(
                f"image: expected {_by(self.only)} pixels, the only size timm's {self.name} takes, "
                f"got {_by(x.shape[2:])}; resize the data, or set backbone.settings.img_size "
                "(some also take dynamic_img_size: true)"
            )
        return {"c0": x, **dict(zip(self.indices, _maps(self.model, self.indices, x), strict=True))}

    def trim(self, levels: Iterable[str]) -> None:
        """Removes the stages after the deepest of the levels read."""
        behind = levels_behind(self.features, levels)
        for level in behind:
            del self.features[level], self.indices[level]
        if behind:
            _prune(self.model, self.indices.values())

    def train(self, mode: bool = True) -> Self:
        """Sets the training mode, except of frozen modules, which stay in evaluation mode."""
        super().train(mode)
        for name, module in self.model.named_modules():
            if name in self.frozen:
                module.training = False
        return self

    def _load(
        self, weights: str | PathLike[str], config: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> None:
        """Loads weights of the whole network, of which the maps may need only a part."""
        first = config.get("first_conv") or ()
        convs = [first] if isinstance(first, str) else first
        load_weights(
            self.model,
            read_weights(weights),
            in_channels=self.features["c0"].channels,
            first_convs=[f"{conv}.weight" for conv in convs],
            left_out=tuple(_whole_names(self.name, settings)),
        )
        self.statistics = statistics_of(weights)

    def _freeze(self, count: int) -> frozenset[str]:
        """Freezes the parameters of the first `count` levels; returns the names of the modules."""
        if count not in range(len(self.indices) + 1):
            raise ValueError(f"freeze_stages: expected 0 to {len(self.indices)}, got {count}")
        if count == 0:
            return frozenset()
        # The modules of these levels are those that timm keeps when it prunes the network to them.
        start = copy.deepcopy(self.model)
        _prune(start, list(self.indices.values())[:count])
        kept = dict(start.named_modules())
        parameters = dict(start.named_parameters())
        for name, parameter in self.model.named_parameters():
            if name in parameters:
                parameter.requires_grad_(False)
        return frozenset(
            name
            for name, module in self.model.named_modules()
            if name in kept and _kinds(module) == _kinds(kept[name])
        )


def _create(name: str, **settings: Any) -> Any:
    """A network of timm, pruned to the maps it returns."""
    try:
        import timm
    except ImportError as error:
        raise ImportError("TimmBackbone needs timm: pip install timm") from error
    if ":" not in name and not timm.is_model(name):
        hint = nearest(name, timm.list_models())
        raise ValueError(f"name: expected a model of timm, got {name!r}{hint}")
    try:
        made = timm.create_model(name, features_only=True, feature_cls="getter", **settings)
    except (TypeError, RuntimeError, AssertionError) as error:
        if isinstance(error, TypeError) and "feature_cls" not in str(error):
            raise  # one of the settings
        raise ValueError(
            f"name: expected a model of timm that returns inner maps, got {name} ({error}); {OTHER}"
        ) from error
    needed = ("forward_intermediates", "prune_intermediate_layers")
    if not all(hasattr(made.model, method) for method in needed):
        raise ValueError(
            f"name: expected a model of timm with {' and '.join(needed)}, got {name}; {OTHER}"
        )
    return made


def _maps(model: nn.Module, indices: Mapping[str, int], image: Tensor) -> list[Tensor]:
    maps: list[Tensor] = model.forward_intermediates(  # type: ignore[operator]
        image, indices=list(indices.values()), intermediates_only=True, output_fmt="NCHW"
    )
    return maps


def _only_size(
    name: str,
    shapes: nn.Module,
    features: Mapping[str, FeatureSpec],
    indices: Mapping[str, int],
    config: Mapping[str, Any],
) -> tuple[int, int] | None:
    """Returns the only image size that a network takes; None if it takes any.

    Args:
        name: Name of the network.
        shapes: The network on the meta device.
        features: Specs of its maps, as timm declares them.
        indices: Level to the index of its map.
        config: timm's configuration of its weights.

    Raises:
        ValueError: The maps differ from what timm declares, or the network takes no image.
    """
    divisor = max(max(spec.stride) for spec in features.values())
    own = (
        getattr(getattr(shapes, "patch_embed", None), "img_size", None) or config["input_size"][1:]
    )
    height, width = (-(-side // divisor) * divisor for side in own)
    only: tuple[int, int] | None = None
    for sides in [(height, width), (height + divisor, width + 2 * divisor)]:
        try:
            image = torch.empty(1, features["c0"].channels, *sides, device="meta")
            maps = _maps(shapes, indices, image)
        except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
            if sides == (height, width):
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ValueError(
                    f"name: expected a model of timm that takes {_by(sides)} pixels, got {name} "
                    f"({reason}); {OTHER}"
                ) from error
            only = height, width
            continue
        for level, found in zip(indices, maps, strict=True):
            spec = features[level]
            expected = (spec.channels, sides[0] // spec.stride[0], sides[1] // spec.stride[1])
            if tuple(found.shape[1:]) != expected:
                raise ValueError(
                    f"name: expected {level} of timm's {name} to be {_by(expected)} for images of "
                    f"{_by(sides)}, by its stride, got {_by(found.shape[1:])}: it does not pad its "
                    f"convolutions, or takes a single size; {OTHER}"
                )
    return only


def _by(sides: Iterable[int]) -> str:
    return " x ".join(str(side) for side in sides)


def _prune(model: nn.Module, indices: Iterable[int]) -> None:
    """Removes the layers that none of these maps needs."""
    model.prune_intermediate_layers(list(indices), prune_norm=True)  # type: ignore[operator]


def _kinds(module: nn.Module) -> list[tuple[str, type]]:
    return [(name, type(child)) for name, child in module.named_modules()]


def _statistics(config: Mapping[str, Any]) -> Statistics:
    mean, std = (tuple(round(255 * value, 3) for value in config[key]) for key in ("mean", "std"))
    return Statistics(mean, std)


def _whole_names(name: str, settings: Mapping[str, Any]) -> list[str]:
    """Names of the tensors of the network before timm prunes it to its maps."""
    import timm

    settings = {key: value for key, value in settings.items() if key != "out_indices"}
    with torch.device("meta"):
        return list(timm.create_model(name, **settings).state_dict())
