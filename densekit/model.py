"""DenseModel: the one place where shapes are wired.

Shape letters: B images, C channels, D spatial dimensions, S the D sizes of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn

from densekit._names import choose
from densekit.backbones.base import Backbone
from densekit.heads.base import Head
from densekit.necks.base import Neck
from densekit.ops.padding import pad_end
from densekit.ops.resize import check_rule, resize_batch
from densekit.types import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Batch,
    Features,
    FeatureSpec,
    Predictions,
)

UINT8_MAX = 255.0


class DenseModel(nn.Module):
    """A backbone, perhaps a pyramid, and heads.

    Heads are built on the specs of every level that could exist and say which they read; the neck
    is then built for these levels only, and the backbone drops what nobody needs. So every
    parameter gets a gradient, which DistributedDataParallel asks for.

    Args:
        backbone: Makes the levels c0, c1, ...; its deeper stages are dropped if nobody reads them.
        heads: Head name to what makes it from the specs, `partial(FasterRCNN, num_classes=80)`.
        neck: What makes it from the levels of the backbone and those read, a class or e.g.
            `partial(FPN, out_channels=256)`; the model has none if no head reads its levels.
        info: What the artifact knows of itself, plain JSON values: `heads` (names, ids and
            num_classes of each), `mean` and `std` a channel, `full_scale` (the value of a
            saturated pixel in the unit of mean and std, 255 or 1: uint8 images are brought to it,
            float images are taken to be in it), `channel_order` ("rgb" or "bgr", the order the
            weights were trained with; images are always RGB), `resize` (None or
            `{"min_size", "max_size"}`, see `densekit.ops.resize.ResizeRule`).

    Raises:
        ValueError: A head reads a level that is not there, its name cannot be used, the channel
            order is unknown, or the resize rule is not for these images.
    """

    mean: Tensor
    std: Tensor
    heads: Mapping[str, Head]  # an `nn.ModuleDict`, which knows no type of its values

    def __init__(
        self,
        backbone: Backbone,
        heads: Mapping[str, Callable[..., Head]],
        neck: Callable[..., Neck] | None = None,
        info: Mapping[str, Any] | None = None,
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
            {name: make(specs) for name, make in heads.items()}
        )
        reads = self._reads(specs)
        from_neck = [level for level in reads if level not in bottom_up]
        self.neck = neck(bottom_up, from_neck) if neck and from_neck else None
        needed = {level for level in reads if level in bottom_up}
        divisors = [head.size_divisor for head in self._heads()]
        if self.neck is not None:
            needed |= set(self.neck.reads)
            divisors.append(self.neck.size_divisor)
        backbone.trim(needed)
        self.size_divisor = lcm(backbone.size_divisor, *divisors)
        self.spatial_dims = bottom_up["c0"].spatial_dims
        self._check_resize()
        self.register_buffer("mean", self._per_channel("mean"), persistent=False)
        self.register_buffer("std", self._per_channel("std"), persistent=False)

    def _per_channel(self, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.tensor(self.info[key], dtype=dtype).view(1, -1, *[1] * self.spatial_dims)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DenseModel:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name in ("mean", "std"):  # in float64 they must not be what float32 left of them
            buffer: Tensor = getattr(self, name)
            buffer.copy_(self._per_channel(name, torch.float64))
        return self

    def _heads(self, names: Iterable[str] | None = None) -> list[Head]:
        return [self.heads[name] for name in (self.heads if names is None else names)]

    def _reads(self, specs: Mapping[str, FeatureSpec]) -> list[str]:
        """Levels that some head reads, in the order of the specs."""
        for name, head in self.heads.items():
            missing = [level for level in head.reads if level not in specs]
            if missing:
                raise ValueError(f"heads.{name} reads {missing}, there is {list(specs)}")
        wanted = {level for head in self._heads() for level in head.reads}
        return [level for level in specs if level in wanted]

    def _check_resize(self) -> None:
        """Refuses a rule for other images, or that cuts some whose results have a place in them."""
        rule = self.info.get("resize")
        if rule is None:
            return
        check_rule(rule, self.spatial_dims, self.info.get("slices"))
        placed = [n for n, h in self.heads.items() if {"boxes", "mask"} & set(h.target_keys)]
        if "crop" in rule and placed:
            raise ValueError(f"resize.crop: heads.{placed[0]} looks at the whole image")

    def normalise(self, image: Tensor, size: Tensor) -> Tensor:
        """Images as the network takes them.

        Args:
            image: (B, C, *S) uint8 or float, see `info`.
            size: (B, D) int64; what lies beyond becomes zero *after* mean and std, as in the
                references.

        Returns:
            (B, C, *S) float, padded to `size_divisor`.
        """
        if image.shape[1] != self.mean.shape[1]:
            raise ValueError(
                f"image: found {image.shape[1]} channels, accepted are {self.mean.shape[1]}, the "
                "length of info.mean"
            )
        x = self.in_unit(image).to(self.mean.dtype)
        if self.flip_channels:
            x = x.flip(1)
        x = (x - self.mean) / self.std
        for axis in range(self.spatial_dims):
            length = image.shape[2 + axis]
            beyond = torch.arange(length, device=size.device) >= size[:, axis, None]  # (B, length)
            shape = [len(size), 1, *[1] * self.spatial_dims]
            shape[2 + axis] = length
            x = x.masked_fill(beyond.view(shape), 0)
        return pad_end(x, [-length % self.size_divisor for length in image.shape[2:]])

    def features(self, batch: Batch) -> Features:
        """Every level that some head reads, c0 (the normalised image) among them."""
        features: Features = self.backbone(self.normalise(batch["image"], batch["size"]))
        return features if self.neck is None else self.neck(features)

    def loss(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Tensor]:
        """Terms named `HEAD/TERM`, whose sum is minimised.

        Args:
            batch: With the targets of the heads.
            features: Of the same batch, to share the pass with `predict`.
            heads: The heads the batch trains; all by default.
        """
        features = self.features(batch) if features is None else features
        names = list(self.heads if heads is None else heads)
        losses: dict[str, Tensor] = {}
        for name, head in zip(names, self._heads(names), strict=True):
            missing = [key for key in head.target_keys if key not in batch]
            if missing:
                raise ValueError(
                    f"heads.{name} learns from {list(head.target_keys)}, the batch lacks {missing}"
                )
            terms = head.loss(features, batch)
            losses |= {f"{name}/{term}": value for term, value in terms.items()}
        return losses

    def predict(
        self, batch: Batch, features: Features | None = None, heads: Iterable[str] | None = None
    ) -> dict[str, Predictions]:
        """Predictions of each head in the network's frame; see `Head.decode`."""
        features = self.features(batch) if features is None else features
        names = list(self.heads if heads is None else heads)
        return {
            name: head.predict(features, batch["size"])
            for name, head in zip(names, self._heads(names), strict=True)
        }

    def forward(self, image: Tensor, size: Tensor) -> dict[str, dict[str, Tensor]]:
        """Raw outputs of each head, the path that is exported.

        Args:
            image: (B, C, *S) in the network's frame, not normalised.
            size: (B, D) int64.
        """
        features = self.features({"image": image, "size": size})
        return {name: head(features, size) for name, head in self.heads.items()}

    def resized(self, batch: Batch) -> Batch:
        """The batch in the network's frame, by the rule in `info["resize"]`."""
        rule = self.info.get("resize")
        if rule is None:
            return batch
        # resizing makes floats of uint8, which then must be in the unit of floats already
        return resize_batch({**batch, "image": self.in_unit(batch["image"])}, rule)

    def in_unit(self, image: Tensor) -> Tensor:
        """The image with uint8 brought to the unit of mean and std; floats are in it."""
        if image.dtype != torch.uint8 or self.full_scale == UINT8_MAX:
            return image
        return image.to(self.mean.dtype) * (self.full_scale / UINT8_MAX)


def _check_head_name(name: str) -> None:
    """`nn.ModuleDict` keeps heads as attributes, so a head must not be called like a method."""
    if not name.isidentifier() or hasattr(nn.ModuleDict(), name):
        raise ValueError(
            f"heads.{name}: this name cannot be used; accepted are Python identifiers that are no "
            "attribute of a module, e.g. 'detection'"
        )
