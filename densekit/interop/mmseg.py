"""Conversion of mmsegmentation's networks on a ResNet: FCN, PSPNet, DeepLabV3(+) and UPerNet.

The tensors do not say strides, dilations and interpolation, nor how images are prepared. A file's
own configuration says it; for a file without one the library's usual configuration is assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from densekit.backbones import ResNet
from densekit.interop.conversion import (
    COUNTER,
    Conversion,
    Parts,
    abridged,
    class_names,
    convert_tensors,
    renamer,
)
from densekit.interop.mmseg_heads import HEAD, NORM, OURS, HeadTensors, Rules, find_head, level_of
from densekit.interop.mmseg_settings import WHERE, MmsegSettings, settings_of
from densekit.interop.openmmlab import Recipe
from densekit.interop.reading import read_source
from densekit.interop.resnet_tensors import resnet_name, resnet_of_tensors
from densekit.interop.torchvision_tensors import below
from densekit.model import DenseModel

LOGITS = "decode_head.conv_seg.weight"
STEM: Rules = [
    (r"^backbone\.stem\.7\.", "backbone.bn1."),
    (r"^backbone\.stem\.", "backbone.conv1."),
]
AUXILIARY = "auxiliary_head"
AUXILIARY_TENSORS = {
    *("conv_seg.weight", "conv_seg.bias", "convs.0.conv.weight"),
    *(f"convs.0.bn.{part}" for part in NORM),
}
"""Those of an auxiliary FCN with one convolution."""
DROPPED = {rf"{AUXILIARY}\.": "of an auxiliary head for training, of another form than densekit's"}


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of an encoder-decoder of mmsegmentation."""
    return LOGITS in state


def from_mmseg(
    source: str | Path | Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    *,
    settings: MmsegSettings | None = None,
) -> DenseModel:
    """Converts a network of mmsegmentation (ResNet, ResNetV1c or ResNeXt); logits are equal.

    Args:
        source: Path of a checkpoint of mmsegmentation 0.x or 1.x, or a state dict.
        names: Class names; by default those in the file, else `class_0` and so on.
        settings: What the tensors do not say; by default what the file's configuration says, else
            the library's usual configuration.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It cannot be read, or a tensor or setting has no counterpart in densekit.
    """
    if isinstance(source, Mapping):
        return convert(source, names, settings=settings).model
    tensors, recipe = read_source(source)
    return convert(tensors, names, recipe=recipe, settings=settings).model


def convert(
    state: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    settings: MmsegSettings | None = None,
) -> Conversion:
    """Converts all tensors; see `from_mmseg`.

    Args:
        state: Tensors by name.
        names: See `from_mmseg`.
        recipe: What the file says besides its tensors.
        settings: See `from_mmseg`.
    """
    known = settings or settings_of(recipe)
    levels = _levels(state)
    found = find_head(HeadTensors(below("decode_head.", state), levels, known))
    num_classes = len(state[LOGITS])
    shared = {"num_classes": num_classes, "align_corners": known.align_corners}
    auxiliary, auxiliary_rules = _auxiliary(state, levels, known)
    output_stride = known.output_stride or found.output_stride
    backbone = _backbone(state, known, output_stride)
    head = partial(found.make, **shared, **auxiliary)
    is_told = settings is not None or bool(recipe.model)
    usual = [] if is_told else known.usual(output_stride, found.unsaid)
    return convert_tensors(
        WHERE,
        Parts(backbone, {HEAD: head}),
        _info(names or recipe.names, num_classes, backbone.keywords["in_channels"], known),
        state,
        renamer([*STEM, *found.rules, *auxiliary_rules]),
        source=f"mmsegmentation {found.make.func.__name__}, {resnet_name(backbone)}",
        changed=found.changed,
        dropped={} if auxiliary["aux_level"] else DROPPED,
        assumed=[*_notes(num_classes, known), *usual],
    )


def _levels(state: Mapping[str, Tensor]) -> dict[int, str]:
    """Channels of the backbone's levels to their names.

    Raises:
        ValueError: It is no ResNet.
    """
    last = "conv3" if "backbone.layer1.0.conv3.weight" in state else "conv2"
    weights = {f"c{n + 1}": f"backbone.layer{n}.0.{last}.weight" for n in range(1, 5)}
    if any(weight not in state for weight in weights.values()):
        found = abridged([name for name in state if name.startswith("backbone.")]) or "none"
        raise ValueError(f"{WHERE}: expected a ResNet as backbone, got tensors {found}")
    return {len(state[weight]): level for level, weight in weights.items()}


def _backbone(
    state: Mapping[str, Tensor], settings: MmsegSettings, output_stride: int
) -> partial[ResNet]:
    rename = renamer(STEM)
    body = below("backbone.", {rename(name): value for name, value in state.items()})
    made = resnet_of_tensors(WHERE, body, output_stride=output_stride)
    return partial(
        made,
        dilate_first_block=settings.dilate_first_block,
        dilate_second_conv=False,
        multi_grid=settings.multi_grid,
        stride_in_1x1=settings.stride_in_1x1 and made.keywords["depth"] >= 50,
    )


def _auxiliary(
    state: Mapping[str, Tensor], levels: Mapping[int, str], settings: MmsegSettings
) -> tuple[dict[str, Any], Rules]:
    """Settings of the auxiliary classifier and its names; none for one of another form."""
    names = {name for name in below(f"{AUXILIARY}.", state) if not name.endswith(COUNTER)}
    if names != AUXILIARY_TENSORS or settings.aux_dilation != 1:
        return {"aux_level": None}, []
    first = f"{AUXILIARY}.convs.0.conv.weight"
    rows = len(state[f"{AUXILIARY}.conv_seg.weight"])
    if state[first].shape[2:] != (3, 3) or rows != len(state[LOGITS]):
        return {"aux_level": None}, []
    made = {
        "aux_level": level_of(state[first].shape[1], first, levels),
        "aux_channels": len(state[first]),
        "aux_weight": settings.aux_weight,
    }
    return made, [
        (rf"^{AUXILIARY}\.convs\.0\.conv\.", f"{OURS}.aux_classifier.0."),
        (rf"^{AUXILIARY}\.convs\.0\.bn\.", f"{OURS}.aux_classifier.1."),
        (rf"^{AUXILIARY}\.conv_seg\.", f"{OURS}.aux_classifier.4."),
    ]


def _notes(num_classes: int, settings: MmsegSettings) -> list[str]:
    """What mmsegmentation does around the network and densekit does not, in words."""
    if num_classes > 1:
        return list(settings.notes)
    threshold = f"a pixel counts above 0.5, in mmsegmentation above {settings.threshold}"
    return [*settings.notes, threshold]


def _info(
    names: Sequence[str] | None, num_classes: int, channels: int, settings: MmsegSettings
) -> dict[str, Any]:
    """The model's `info`."""
    if len(settings.mean) != channels:
        raise ValueError(
            f"{WHERE}: settings.mean: expected {channels} numbers, one per channel of the images,"
            f" got {list(settings.mean)}"
        )
    found = class_names(names, num_classes)
    first = settings.first_value
    described = {
        "names": found,
        "ids": list(range(first, first + num_classes)),
        "num_classes": num_classes,
        "background": found[0].lower() == "background",
        "multilabel": False,
    }
    return {
        "heads": {HEAD: described},
        "mean": list(settings.mean),
        "std": list(settings.std),
        "channel_order": settings.channel_order,
        "channels": channels,
        "resize": settings.resize(),
    }
