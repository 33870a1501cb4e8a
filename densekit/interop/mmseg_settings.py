"""What the tensors of a network of mmsegmentation do not say: its configuration or the usual."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from densekit.interop.openmmlab import Recipe, mapping_at, normalisation_of
from densekit.types import IMAGENET_MEAN, IMAGENET_STD

WHERE = "from_mmseg"
HEADS = ("FCNHead", "PSPHead", "ASPPHead", "DepthwiseSeparableASPPHead", "UPerHead")
BACKBONES = ("ResNet", "ResNetV1c", "ResNeXt")
RELU = {"type": "ReLU"}
STRIDES = {32: (1, 2, 2, 2), 16: (1, 2, 2, 1), 8: (1, 2, 1, 1)}
DILATIONS = {32: (1, 1, 1, 1), 16: (1, 1, 1, 2), 8: (1, 1, 2, 4)}
"""Output stride of a backbone to the strides and dilations of its stages."""


@dataclass(frozen=True)
class MmsegSettings:
    """What mmsegmentation's configuration says and its tensors do not; by default the usual ones.

    Attributes:
        output_stride: That of the backbone: 8 (D8), 16 or 32; with None 32 of UPerNet, 8 of others.
        dilate_first_block: Whether `contract_dilation` is false.
        multi_grid: Dilations of the blocks of the last stage.
        stride_in_1x1: Whether `style` is "caffe".
        rates: Dilations of the branches of DeepLab, without the first one, which is 1.
        scales: Cells per axis of the grids of PSPNet and UPerNet.
        fcn_dilation: Dilation of FCN's convolutions.
        align_corners: Of every interpolation.
        aux_dilation: Dilation of the auxiliary head's convolutions.
        aux_weight: Factor of its loss.
        dropout: Dropout probability before the logits.
        mean: Of the pixels in 0..255, in the order of the channels.
        std: As `mean`.
        channel_order: "rgb" or "bgr".
        min_size: Length of the shorter side of a resized image; None if it is not resized.
        max_size: Limit of its longer side.
        threshold: Of a single class.
        first_value: Value of class 0 in annotations: 1 with `reduce_zero_label`.
        notes: What mmsegmentation does around the network and densekit does not, in words.
    """

    output_stride: int | None = None
    dilate_first_block: bool = False
    multi_grid: tuple[int, ...] | None = None
    stride_in_1x1: bool = False
    rates: tuple[int, ...] = (12, 24, 36)
    scales: tuple[int, ...] = (1, 2, 3, 6)
    fcn_dilation: int = 1
    align_corners: bool = False
    aux_dilation: int = 1
    aux_weight: float = 0.4
    dropout: float = 0.1
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    channel_order: str = "rgb"
    min_size: int | None = None
    max_size: int | None = None
    threshold: float = 0.3
    first_value: int = 0
    notes: tuple[str, ...] = ()

    def resize(self) -> dict[str, Any] | None:
        """The resize rule of `info`."""
        if self.min_size is None:
            return None
        longest = {} if self.max_size is None else {"max_size": self.max_size}
        return {"min_size": self.min_size, **longest, "rounded": True}

    def usual(self, output_stride: int, unsaid: str) -> list[str]:
        """What is assumed of a file without a configuration, in words."""
        mean, std = list(self.mean), list(self.std)
        return [
            f"the backbone's output stride is {output_stride}, {unsaid}",
            f"images are {self.channel_order.upper()}, of mean {mean} and std {std}, not resized",
        ]


class _UnlikeDensekitError(ValueError):
    """A setting has no counterpart."""


def settings_of(recipe: Recipe) -> MmsegSettings:
    """The settings in the configuration that a file carries, and the defaults of the others.

    Raises:
        ValueError: A setting has no counterpart in densekit.
    """
    if not recipe.model:
        return MmsegSettings(first_value=int(recipe.skips_zero))
    backbone, head = (mapping_at(recipe.model, name) for name in ("backbone", "decode_head"))
    try:
        _refuse_others(backbone, head)
        known = _backbone(backbone) | _head(head) | normalisation_of(recipe)
        known |= _auxiliary(mapping_at(recipe.model, "auxiliary_head"))
        size, notes = _size(recipe)
        notes += _slides(mapping_at(recipe.model, "test_cfg"))
        notes += _pads(mapping_at(mapping_at(recipe.model, "data_preprocessor"), "test_cfg"))
    except _UnlikeDensekitError:
        raise
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"{WHERE}: expected a configuration of mmsegmentation, got one that cannot be"
            f" understood: {error!r}"
        ) from error
    return MmsegSettings(**known, **size, first_value=int(recipe.skips_zero), notes=tuple(notes))


def _refuse_others(backbone: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    """Refuses settings that change the network without changing its tensors."""
    checks: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("backbone.type", backbone.get("type", "ResNet"), BACKBONES),
        ("decode_head.type", head.get("type", "FCNHead"), HEADS),
        ("decode_head.act_cfg", head.get("act_cfg", RELU), (RELU,)),
        ("decode_head.input_transform", head.get("input_transform"), (None, "multiple_select")),
    ]
    for name, part in (("backbone", backbone), ("decode_head", head)):
        eps = mapping_at(part, "norm_cfg").get("eps", 1e-5)
        checks.append((f"{name}.norm_cfg.eps", eps, (1e-5,)))
        checks.append((f"{name}.conv_cfg", part.get("conv_cfg"), (None, {"type": "Conv2d"})))
    for key, found, accepted in checks:
        if found not in accepted:
            names = " or ".join(map(repr, accepted))
            raise _UnlikeDensekitError(f"{WHERE}: model.{key}: expected {names}, got {found!r}")


def _backbone(part: Mapping[str, Any]) -> dict[str, Any]:
    strides = tuple(part.get("strides", STRIDES[32]))
    dilations = tuple(part.get("dilations", DILATIONS[32]))
    grid = part.get("multi_grid")
    output_stride = 4 * prod(strides)
    compared = len(dilations) - (grid is not None)  # the grid replaces the last one
    expected = DILATIONS.get(output_stride, ())[:compared]
    if strides != STRIDES.get(output_stride) or dilations[:compared] != expected:
        accepted = ", ".join(f"{STRIDES[s]} with {DILATIONS[s]}" for s in STRIDES)
        raise _UnlikeDensekitError(
            f"{WHERE}: model.backbone: expected strides and dilations of {accepted}, got"
            f" {strides} with {dilations}"
        )
    return {
        "output_stride": output_stride,
        "dilate_first_block": not part.get("contract_dilation", False),
        "multi_grid": None if grid is None else tuple(grid),
        "stride_in_1x1": part.get("style") == "caffe",
    }


def _head(part: Mapping[str, Any]) -> dict[str, Any]:
    known: dict[str, Any] = {
        "align_corners": bool(part.get("align_corners", False)),
        "dropout": float(part.get("dropout_ratio", 0.1)),
        "fcn_dilation": int(part.get("dilation", 1)),
        "threshold": float(part.get("threshold") or 0.3),
    }
    if "pool_scales" in part:
        known["scales"] = tuple(part["pool_scales"])
    dilations = tuple(part.get("dilations", (1,)))
    if dilations[0] != 1 or 1 in dilations[1:]:
        raise _UnlikeDensekitError(
            f"{WHERE}: model.decode_head.dilations: expected 1 first and then larger ones, got"
            f" {dilations}"
        )
    return known | ({"rates": dilations[1:]} if dilations[1:] else {})


def _auxiliary(part: Mapping[str, Any]) -> dict[str, Any]:
    weight = mapping_at(part, "loss_decode").get("loss_weight", 0.4)
    return {"aux_dilation": int(part.get("dilation", 1)), "aux_weight": float(weight)}


def _size(recipe: Recipe) -> tuple[dict[str, Any], list[str]]:
    """The resize rule of test images, or in words what cannot be one."""
    steps = list(recipe.transforms())
    keeps_ratio = any(step.get("keep_ratio") for step in steps if step.get("type") == "Resize")
    for step in steps:
        scale = step.get("scale", step.get("img_scale"))
        if not isinstance(scale, tuple | list) or len(scale) != 2:
            continue
        if keeps_ratio:
            return {"min_size": int(min(scale)), "max_size": int(max(scale))}, []
        return {}, [f"mmsegmentation resizes images to {list(scale)}, whatever their ratio"]
    return {}, []


def _pads(test: Mapping[str, Any]) -> list[str]:
    padded = {key: test[key] for key in ("size", "size_divisor") if test.get(key)}
    if not padded:
        return []
    return [f"images are not padded; mmsegmentation pads them to {padded}, which moves the borders"]


def _slides(test: Mapping[str, Any]) -> list[str]:
    if test.get("mode") != "slide":
        return []
    height, width = test["crop_size"]
    window = f"{{_target_:densekit.inference.SlidingWindow,window:[{height},{width}]}}"
    return [
        f"whole images are predicted; mmsegmentation predicted windows of {height} x {width} pixels"
        f" with a stride of {test['stride']}, similar to inferer={window}"
    ]
