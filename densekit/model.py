"""DenseModel: wires a backbone, a neck and heads by their specs.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from math import lcm
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from densekit._names import choose, unknown
from densekit.backbones.base import Backbone
from densekit.heads.base import Head
from densekit.heads.combination import Combination
from densekit.necks.base import Neck
from densekit.ops.padding import pad_end
from densekit.ops.resize import check_rule, resize_batch
from densekit.types import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Batch,
    Decision,
    Features,
    FeatureSpec,
    Predictions,
    Result,
)

log = logging.getLogger(__name__)

UINT8_MAX = 255.0


class DenseModel(nn.Module):
    """A backbone, an optional neck, and heads.

    Heads are built on the specs of every available level and declare which levels they read; the
    neck is then built for these levels only, and the backbone drops the stages that nobody reads.
    So every parameter gets a gradient, as DistributedDataParallel requires.

    Args:
        backbone: Computes the levels c0, c1, ...; its stages are dropped beyond those read.
        heads: Head name to a constructor that takes the specs, `partial(FasterRCNN,
            num_classes=80)`; without any, the model is a whole backbone for others to start from.
        neck: Constructor that takes the backbone's specs and the levels read, a class or e.g.
            `partial(FPN, out_channels=256)`; not built if no head reads its levels.
        info: Metadata of the model as JSON values: `heads` (names, ids and num_classes of each),
            `mean` and `std` (one value per channel), `full_scale` (the value of a saturated pixel
            in the unit of mean and std, 255 or 1: uint8 images are scaled to it, float images must
            be in it), `channel_order` ("rgb" or "bgr", the order the weights were trained with;
            images are always RGB), `resize` (None or `{"min_size", "max_size"}`, see
            `densekit.ops.resize.ResizeRule`).
        combine: Name to a constructor of a combination, which takes `info["heads"]`:
            `partial(Panoptic, things="detection", stuff="segmentation")`.

    Attributes:
        combined: Name to combination, see `densekit.heads.Combination`.
        decided: Head name to a threshold that replaces the head's own.

    Raises:
        ValueError: A head reads a level that does not exist, its name cannot be used, the channel
            order is unknown, or the resize rule does not apply to these images.
    """

    mean: Tensor
    std: Tensor
    decided: Mapping[str, Decision] = MappingProxyType({})
    heads: Mapping[str, Head]  # an `nn.ModuleDict`, whose values have no static type

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, Callable[..., Head]],
        neck: Callable[..., Neck] | None = None,
        info: Mapping[str, Any] | None = None,
        combine: Mapping[str, Callable[..., Combination]] | None = None,
    ) -> None:
        super().__init__()
        self.info = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD), **(info or {})}
        self.full_scale = float(self.info.setdefault("full_scale", UINT8_MAX))
        order = self.info.setdefault("channel_order", "rgb")
        self.flip_channels = choose("info.channel_order", order, {"rgb": False, "bgr": True})
        self.backbone = backbone
        bottom_up = dict(backbone.features)
        specs = bottom_up | (neck(bottom_up).specs if neck else {})
        for name in heads:
            _check_head_name(name)
        self.heads = nn.ModuleDict(  # type: ignore[assignment]
            {name: make(_Levels(specs, name)) for name, make in heads.items()}
        )
        described = self.info.get("heads", {})
        self.combined = {name: make(described) for name, make in (combine or {}).items()}
        _check_combined(self.combined, self.heads)
        reads = self._reads(specs)
        from_neck = [level for level in reads if level not in bottom_up]
        self.neck = neck(bottom_up, from_neck) if neck and from_neck else None
        needed = {level for level in reads if level in bottom_up}
        divisors = [head.size_divisor for head in self._heads()]
        if self.neck is not None:
            needed |= set(self.neck.reads)
            divisors.append(self.neck.size_divisor)
        if heads:
            backbone.trim(needed)
        self.size_divisor = lcm(backbone.size_divisor, *divisors)
        self.spatial_dims = bottom_up["c0"].spatial_dims
        self._check_resize()
        self.register_buffer("mean", self._per_channel("mean"), persistent=False)
        self.register_buffer("std", self._per_channel("std"), persistent=False)
        self._warn_of_statistics()

    def _warn_of_statistics(self) -> None:
        """Warns if images are normalised otherwise than the backbone's weights expect."""
        expected = self.backbone.statistics
        if expected is None or len(expected.mean) != self.mean.shape[1]:
            return
        unit = self.full_scale / UINT8_MAX
        mean, std = ([round(unit * value, 3) for value in values] for values in expected)
        for key, wanted in (("mean", mean), ("std", std)):
            given = [round(float(value), 3) for value in self.info[key]]
            if given != wanted:
                log.warning(
                    "%s: expected %s, as the backbone's weights do, got %s; set mean=%s and std=%s "
                    "of the data set (data.NAME.mean=...; in Python, info of DenseModel)",
                    key, wanted, given, mean, std,
                )  # fmt: skip
                return

    def _per_channel(self, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor(self.info[key], dtype=dtype).view(1, -1, *[1] * self.spatial_dims)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DenseModel:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in ("mean", "std"):  # in float64 they must not stay rounded to float32
            buffer: Tensor = getattr(self, name)
            buffer.copy_(self._per_channel(name, torch.float64))
        return self

    @property
    def thresholds(self) -> dict[str, Decision]:
        """From which probability classes count, per head with such a rule; see `Head.threshold`."""
        own = {name: head.threshold for name, head in self.heads.items()}
        return {n: value for n, value in {**own, **self.decided}.items() if value is not None}

    @property
    def described(self) -> dict[str, Mapping[str, Any]]:
        """What each head and each combination predicts, by name; heads as in `info["heads"]`."""
        combined = {name: combination.info for name, combination in self.combined.items()}
        return {**self.info.get("heads", {}), **combined}

    def combine(self, results: Mapping[str, Result]) -> dict[str, Result]:
        """Returns an image's results with those of the combinations; see `Combination`."""
        return {**results, **{name: make(results) for name, make in self.combined.items()}}

    def _heads(self, names: Iterable[str] | None = None) -> list[Head]:
        return [self.heads[name] for name in (self.heads if names is None else names)]

    def _reads(self, specs: Mapping[str, FeatureSpec]) -> list[str]:
        """Levels that some head reads, in the order of the specs."""
        for name, head in self.heads.items():
            for level in head.reads:
                _Levels(specs, name)[level]  # a head may read a level without looking at its spec
        wanted = {level for head in self._heads() for level in head.reads}
        return [level for level in specs if level in wanted]

    def _check_resize(self) -> None:
        """Refuses a rule for other images, or a crop with heads that predict positions."""
        rule = self.info.get("resize")
        if rule is None:
            return
        check_rule(rule, self.spatial_dims, self.info.get("slices"))
        placed = [n for n, h in self.heads.items() if {"boxes", "mask"} & set(h.target_keys)]
        if "crop" in rule and placed:
            raise ValueError(
                f"resize.crop: expected heads for whole images alone, got heads.{placed[0]}, whose"
                " boxes or masks a crop would cut"
            )

    def normalise(self, image: Tensor, size: Tensor) -> Tensor:
        """Normalises and pads images for the network.

        Args:
            image: (B, C, *S) uint8 or float, see `info`.
            size: (B, D) int64; pixels beyond it are set to zero *after* mean and std, as in the
                references.

        Returns:
            (B, C, *S) float, padded to `size_divisor`.
        """
        if image.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"image: expected {self.mean.shape[1]} channels, the length of info.mean, got "
                f"{image.shape[1]}"
            )
        x = self.in_unit(image).to(self.mean.dtype)
        if self.flip_channels:
            x = x.flip(1)
        x = (x - self.mean) / self.std
        for axis in range(self.spatial_dims):
            length = image.shape[2 + axis]
            beyond = torch.arange(length, device=size.device) >= size[:, axis, None]  # (B, length)
            shape = [size.shape[0], 1, *[1] * self.spatial_dims]
            shape[2 + axis] = length
            x = x.masked_fill(beyond.view(shape), 0)
        return pad_end(x, [-length % self.size_divisor for length in image.shape[2:]])

    def features(self, batch: Batch) -> Features:
        """Computes every level that some head reads, and c0, the normalised image."""
        features: Features = self.backbone(self.normalise(batch["image"], batch["size"]))
        return features if self.neck is None else self.neck(features)

    def loss(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Tensor]:
        """Returns the loss terms by `HEAD/TERM`; their sum is minimised.

        Args:
            batch: A batch with the targets of the heads.
            features: Features of the same batch, to share the pass with `predict`.
            heads: The heads that the batch trains; all by default.

        Raises:
            ValueError: The batch lacks a target of one of the heads.
        """
        features = self.features(batch) if features is None else features
        names = list(self.heads if heads is None else heads)
        losses: dict[str, Tensor] = {}
        for name, head in zip(names, self._heads(names), strict=True):
            missing = [key for key in head.target_keys if key not in batch]
            if missing:
                raise ValueError(
                    f"heads.{name}: expected a batch with {list(head.target_keys)}, got one without"
                    f" {missing}"
                )
            terms = head.loss(features, batch)
            losses |= {f"{name}/{term}": value for term, value in terms.items()}
        return losses

    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        """Returns the predictions of each head, in the network's frame; see `Head.decode`."""
        features = self.features(batch) if features is None else features
        names = list(self.heads if heads is None else heads)
        return {
            name: head.predict(features, batch["size"])
            for name, head in zip(names, self._heads(names), strict=True)
        }

    def forward(self, image: Tensor, size: Tensor) -> dict[str, dict[str, Tensor]]:
        """Returns the raw outputs of each head; this path is exported.

        Args:
            image: (B, C, *S) in the network's frame, not normalised.
            size: (B, D) int64.
        """
        features = self.features({"image": image, "size": size})
        return {name: head(features, size) for name, head in self.heads.items()}

    def resized(self, batch: Batch) -> Batch:
        """Resizes a batch to the network's frame by the rule in `info["resize"]`."""
        rule = self.info.get("resize")
        if rule is None:
            return batch
        # resizing turns uint8 into floats, which must be in the unit of mean and std
        return resize_batch({**batch, "image": self.in_unit(batch["image"])}, rule)

    def in_unit(self, image: Tensor) -> Tensor:
        """Scales a uint8 image to the unit of mean and std; float images are in it already."""
        if image.dtype != torch.uint8 or self.full_scale == UINT8_MAX:
            return image
        return image.to(self.mean.dtype) * (self.full_scale / UINT8_MAX)


class _Levels(dict[str, FeatureSpec]):
    """The specs that a head is built with; a level that does not exist is refused by its name."""

    def __init__(self, specs: Mapping[str, FeatureSpec], head: str) -> None:
        super().__init__(specs)
        self.head = head

    def __missing__(self, level: str) -> FeatureSpec:
        raise ValueError(
            f"heads.{self.head}: expected levels among {', '.join(self)}, got {level}; choose a"
            " neck or backbone that has it, or let the head read other levels"
        )


def _check_head_name(name: str) -> None:
    """Refuses names of methods, because `nn.ModuleDict` keeps heads as attributes."""
    if not isinstance(name, str) or not name.isidentifier() or hasattr(nn.ModuleDict(), name):
        raise ValueError(
            "heads: expected names that are Python identifiers and not attributes of a module, "
            f"e.g. 'detection', got {name!r}"
        )


def _check_combined(combined: Mapping[str, Combination], heads: Iterable[str]) -> None:
    """Refuses a combination named like a head, and one of heads that the model does not have."""
    known = list(heads)
    for name, combination in combined.items():
        if name in known:
            raise ValueError(f"combine.{name}: expected another name than those of heads")
        for part in combination.parts:
            if part not in known:
                raise ValueError(unknown(f"combine.{name}", part, known))
