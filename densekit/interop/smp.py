"""Conversion of smp's models with a ResNet encoder to equivalent `DenseModel`s."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densekit._names import check_keys, choose
from densekit.heads import DeepLabV3Plus, SmpHead, UNet
from densekit.interop.conversion import Conversion, Parts, convert_tensors, load_whole, renamer
from densekit.interop.reading import read_tensors
from densekit.interop.resnet import like_torchvision
from densekit.interop.torchvision_segmentation import HEAD, segmentation_info
from densekit.model import DenseModel
from densekit.types import IMAGENET_MEAN, IMAGENET_STD

PROBE = 256
"""Side of the image with which the size of a model's masks is determined."""
ENCODERS = ("resnet", "resnext")
WEIGHTS = "model.safetensors"
IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "input_range": (0, 255)}
PREPROCESSING = ("input_space", "input_range", "mean", "std")


def from_smp(
    model: nn.Module,
    names: Sequence[str] | None = None,
    *,
    multilabel: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
) -> DenseModel:
    """Converts a model of smp with its weights and settings; the logits are equal.

    By default the result takes the same input as the original: normalised float images (uint8
    images are only divided by 255). With `preprocessing` it takes unnormalised images: uint8, or
    float in the input range.

    `UNet` and `DeepLabV3Plus` take images of any sides. `SmpHead` pads with zeros to sides that the
    original accepts; raw logits have the padded size.

    Args:
        model: Any of smp's architectures, with an encoder such as resnet* or resnext*.
        names: Class names; `class_0` and so on by default.
        multilabel: Whether the classes are independent (trained with a sigmoid each).
        preprocessing: Result of `smp.encoders.get_preprocessing_params(encoder_name)`.

    Raises:
        TypeError: It is not a model of smp, or has another encoder or decoder.
        ValueError: A setting has no counterpart in densekit.
    """
    found = convert_smp(model, names, multilabel=multilabel, preprocessing=preprocessing)
    return found.model.train(model.training)


def convert_smp(
    model: nn.Module,
    names: Sequence[str] | None = None,
    *,
    multilabel: bool = False,
    preprocessing: Mapping[str, Any] | None = None,
) -> Conversion:
    """Converts a model of smp as `from_smp` does."""
    import segmentation_models_pytorch as smp
    from segmentation_models_pytorch.encoders.resnet import ResNetEncoder

    if not isinstance(model, smp.base.SegmentationModel):
        raise TypeError(
            f"from_smp: expected a model of segmentation_models_pytorch, got {type(model).__name__}"
        )
    theirs: Any = model
    if not isinstance(theirs.encoder, ResNetEncoder):
        raise TypeError(
            "from_smp: expected a ResNet as encoder (resnet18, resnet34, resnet50, resnet101, "
            f"resnet152 or resnext*), got {type(theirs.encoder).__name__}"
        )
    _check_outputs(theirs)
    num_classes = theirs.segmentation_head[0].out_channels
    channels = theirs.encoder.conv1.in_channels
    info = segmentation_info(num_classes, channels, names, multilabel=multilabel)
    head = _head(theirs)
    head = partial(head, num_classes=num_classes, multilabel=multilabel)
    backbone = like_torchvision(theirs.encoder, "from_smp")
    architecture = type(theirs.decoder).__name__.removesuffix("Decoder")
    return convert_tensors(
        "from_smp",
        Parts(backbone, {HEAD: head}),
        info | _normalisation(preprocessing),
        model.state_dict(),
        renamer([(r"^encoder\.", "backbone."), (r"^", f"heads.{HEAD}.")]),
        source=f"smp {architecture}, ResNet-{backbone.keywords['depth']}",
    )


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of a model of smp."""
    return any("segmentation_head.0." in name for name in state)


def convert(state: Mapping[str, Tensor], names: Sequence[str] | None = None) -> Conversion:
    """Refuses a state dict: its settings cannot be told from its tensors.

    Args:
        state: Tensors of a model of smp.
        names: Class names.

    Raises:
        ValueError: Always; the message says what converts instead.
    """
    raise ValueError(
        f"source: expected the folder of a model of smp with its settings, got {len(state)} tensors"
        " alone; where the model was made, model.save_pretrained(FOLDER), then source=FOLDER"
    )


def convert_folder(folder: str | Path, names: Sequence[str] | None = None) -> Conversion:
    """Converts a folder that `save_pretrained` of smp wrote.

    Images are normalised as for the encoder's published weights.

    Args:
        folder: With `config.json` and `model.safetensors`.
        names: Class names; `class_0` and so on by default.

    Raises:
        TypeError: The encoder is not a ResNet, or the decoder has no counterpart.
        ValueError: The folder is not whole, or a setting has no counterpart.
    """
    import segmentation_models_pytorch as smp

    config, weights = settings_of(folder), Path(folder) / WEIGHTS
    given = config.pop("_model_class")
    makers = {kind.__name__: kind for kind in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    make = choose(f"{folder}: _model_class", str(given), makers)
    encoder = str(config.get("encoder_name"))
    config["encoder_weights"] = None  # the file has them
    if not encoder.startswith(ENCODERS):  # before it is built: some names reach for the network
        raise TypeError(f"{folder}: expected a ResNet as encoder, got {encoder}")
    try:
        model = make(**config).eval()
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{folder}: expected settings of {given}, got: {error}") from error
    load_whole(str(weights), model, read_tensors(weights))
    found = convert_smp(model, names, preprocessing=IMAGENET)
    return replace(found, assumed=("mean and std: ImageNet's, as of all of smp's ResNets",))


def settings_of(folder: str | Path) -> dict[str, Any]:
    """The settings in `config.json` of a saved model.

    Raises:
        ValueError: There are none.
    """
    file = Path(folder) / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found = error if file.exists() else "neither"
        raise ValueError(
            f"{folder}: expected a run folder with checkpoints, or the folder of smp's"
            f" save_pretrained with config.json, got {found}"
        ) from error
    if not isinstance(config, dict) or "_model_class" not in config:
        raise ValueError(f"{file}: expected _model_class and settings, as smp saves them, got none")
    return config


def _check_outputs(model: Any) -> None:
    if model.classification_head is not None:
        raise ValueError("from_smp: expected aux_params=None, got a classification head")
    activation = model.segmentation_head[2].activation
    if not isinstance(activation, nn.Identity):
        raise ValueError(
            "from_smp: expected activation=None, as heads return logits, got "
            f"{type(activation).__name__}"
        )
    probe = copy.deepcopy(model).to("meta", torch.float32).eval()
    image = torch.empty(1, model.encoder.conv1.in_channels, PROBE, PROBE, device="meta")
    with torch.no_grad():
        side = probe(image).shape[-1]
    if side != PROBE:
        raise ValueError(
            "from_smp: expected smp's default upsampling, with masks of the image's size, got "
            f"masks of {side / PROBE:g} times its size"
        )


def _normalisation(preprocessing: Mapping[str, Any] | None) -> dict[str, Any]:
    if preprocessing is None:
        return {}
    check_keys("preprocessing", preprocessing, PREPROCESSING)
    full_scale = float((preprocessing.get("input_range") or (0, 1))[1])
    given = {key: list(preprocessing[key]) for key in ("mean", "std") if preprocessing.get(key)}
    order = str(preprocessing.get("input_space", "RGB")).lower()
    return given | {"full_scale": full_scale, "channel_order": order}


def _head(model: Any) -> partial[Any]:
    """The constructor of an equivalent head: densekit's own if it has all settings."""
    kind = type(model.decoder).__name__
    if kind not in _SETTINGS:
        accepted = ", ".join(name.removesuffix("Decoder") for name in _SETTINGS)
        raise TypeError(f"from_smp: expected a decoder of {accepted}, got {kind}")
    name, read = _SETTINGS[kind]
    settings = read(model.decoder)
    depth = model.encoder._depth
    if name == "unet" and _is_plain(model.decoder):
        return partial(UNet, depth=depth, decoder_channels=settings["decoder_channels"])
    if name == "deeplabv3plus" and depth == 5 and settings["aspp_separable"]:
        return partial(
            DeepLabV3Plus,
            channels=settings["out_channels"],
            rates=settings["atrous_rates"],
            dropout=settings["aspp_dropout"],
        )
    if name == "linknet":
        settings["prefinal_channels"] = model.segmentation_head[0].in_channels
    return partial(SmpHead, decoder=name, depth=depth, **settings)


def _is_plain(decoder: Any) -> bool:
    """Whether a U-Net's decoder has only settings that `UNet` has too."""
    return (
        isinstance(decoder.center, nn.Identity)
        and _attention(decoder.blocks) is None
        and decoder.blocks[0].interpolation_mode == "nearest"
        and _norm(decoder) == "batchnorm"
    )


def _attention(blocks: Sequence[Any]) -> str | None:
    plain = isinstance(blocks[0].attention1.attention, nn.Identity)
    return None if plain else "scse"


def _norm(decoder: nn.Module) -> str:
    """The setting `decoder_use_norm` of smp, derived from the decoder's layers."""
    from segmentation_models_pytorch.base.modules import Conv2dReLU

    kinds = {
        nn.Identity: "identity",
        nn.BatchNorm2d: "batchnorm",
        nn.InstanceNorm2d: "instancenorm",
    }
    found = {
        type(layer[1]): layer[1] for layer in decoder.modules() if isinstance(layer, Conv2dReLU)
    }
    for kind, norm in found.items():
        default = kind not in kinds or repr(norm) == repr(kind(getattr(norm, "num_features", 1)))
        if kind not in kinds or not default:
            raise ValueError(
                "from_smp: decoder_use_norm: expected a batch norm or instance norm with default"
                f" settings, got {norm}"
            )
    if nn.Identity in found and len(found) > 1:  # PSPNet leaves the norm out after pooling to 1x1
        del found[nn.Identity]
    return kinds[next(iter(found))] if found else "batchnorm"


def _widths(decoder: Any) -> dict[str, Any]:
    widths = [block.conv2[0].out_channels for block in decoder.blocks]
    return {
        "decoder_channels": widths,
        "use_norm": _norm(decoder),
        "interpolation_mode": decoder.blocks[0].interpolation_mode,
    }


def _unet(decoder: Any) -> dict[str, Any]:
    center = not isinstance(decoder.center, nn.Identity)
    attention = _attention(decoder.blocks)
    return _widths(decoder) | {"attention_type": attention, "add_center_block": center}


def _unetplusplus(decoder: Any) -> dict[str, Any]:
    first = next(iter(decoder.blocks.values()))
    return {
        "decoder_channels": list(decoder.out_channels),
        "use_norm": _norm(decoder),
        "interpolation_mode": first.interpolation_mode,
        "attention_type": _attention([first]),
        "center": not isinstance(decoder.center, nn.Identity),
    }


def _manet(decoder: Any) -> dict[str, Any]:
    return _widths(decoder) | {"pab_channels": decoder.center.pab_channels}


def _fpn(decoder: Any) -> dict[str, Any]:
    return {
        "pyramid_channels": decoder.p5.out_channels,
        "segmentation_channels": decoder.seg_blocks[0].block[0].block[0].out_channels,
        "dropout": decoder.dropout.p,
        "merge_policy": decoder.merge.policy,
        "interpolation_mode": decoder.p4.interpolation_mode,
    }


def _pspnet(decoder: Any) -> dict[str, Any]:
    channels = decoder.conv[0].out_channels
    return {"out_channels": channels, "dropout": decoder.dropout.p, "use_norm": _norm(decoder)}


def _pan(decoder: Any) -> dict[str, Any]:
    channels = decoder.fpa.mid[0].conv.out_channels
    return {
        "decoder_channels": channels,
        "interpolation_mode": decoder.gau1.interpolation_mode,
    }


def _deeplab(decoder: Any) -> dict[str, Any]:
    pyramid = decoder.aspp if hasattr(decoder.aspp, "convs") else decoder.aspp[0]
    dilated = [branch[0] for branch in list(pyramid.convs)[1:-1]]
    separable = isinstance(dilated[0], nn.Sequential)
    convs = [conv[0] for conv in dilated] if separable else dilated
    return {
        "out_channels": pyramid.project[0].out_channels,
        "atrous_rates": [conv.dilation[0] for conv in convs],
        "aspp_separable": separable,
        "aspp_dropout": pyramid.project[3].p,
    }


_SETTINGS: dict[str, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    "UnetDecoder": ("unet", _unet),
    "UnetPlusPlusDecoder": ("unetplusplus", _unetplusplus),
    "MAnetDecoder": ("manet", _manet),
    "LinknetDecoder": ("linknet", lambda decoder: {"use_norm": _norm(decoder)}),
    "FPNDecoder": ("fpn", _fpn),
    "PSPDecoder": ("pspnet", _pspnet),
    "PANDecoder": ("pan", _pan),
    "UPerNetDecoder": (
        "upernet",
        lambda decoder: {"decoder_channels": decoder.fusion_block[0].out_channels},
    ),
    "SegformerDecoder": (
        "segformer",
        lambda decoder: {"segmentation_channels": decoder.fuse_stage[0].out_channels},
    ),
    "DeepLabV3Decoder": ("deeplabv3", _deeplab),
    "DeepLabV3PlusDecoder": ("deeplabv3plus", _deeplab),
}
"""Class of a decoder to its name in `SmpHead` and the function that reads its settings."""
