"""Conversion of any source: a name of a published model, a file, a folder, or an object."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from densekit.backbones.packaged import SCHEME as PACKAGES
from densekit.backbones.weights import fetch
from densekit.interop.conversion import Conversion
from densekit.interop.layouts import convert_state
from densekit.interop.reading import read_source

TORCHVISION, TIMM = "torchvision:", "timm:"
ADDRESSES = ("https://", "http://")


def convert(
    source: str | Path | nn.Module | Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    leave: Sequence[str] = (),
) -> Conversion:
    """Converts another library's model, with a report of what became of each tensor.

    Args:
        source: `torchvision:NAME` or `timm:NAME`, which are downloaded; the path or URL of a file
            with a state dict; the folder of smp's `save_pretrained`; a model of torchvision, timm,
            smp or insightface; or a state dict.
        names: Class names, of detectors without the background; by default those that the source
            tells, else `class_0` and so on.
        leave: Modules of a state dict to leave out, because densekit does not have them or they are
            not wanted, such as the "roi_heads.keypoint_head" of a Keypoint R-CNN.

    Raises:
        FileNotFoundError: There is no such file.
        ConnectionError: It cannot be downloaded.
        TypeError: The model is of a kind that does not convert.
        ValueError: It is unknown, damaged, or cannot be converted whole; the message names what.
    """
    if isinstance(source, nn.Module):
        return _convert_module(source, names)
    if isinstance(source, Mapping):
        return convert_state(source, names, leave)
    text = str(source)
    if text.startswith(TORCHVISION):
        from densekit.interop.torchvision_zoo import convert_named

        return convert_named(text.removeprefix(TORCHVISION), names)
    if text.startswith(TIMM):
        from densekit.interop.timm import convert_named as convert_timm_named

        return convert_timm_named(text.removeprefix(TIMM), names)
    path = fetch(text) if text.startswith(ADDRESSES) else Path(text).expanduser()
    if not path.exists():
        check_scheme("source", text, f"a file, a folder, {TORCHVISION}NAME or {TIMM}NAME")
    if path.is_dir():
        from densekit.interop.smp import convert_folder

        return convert_folder(path, names)
    tensors, recipe = read_source(path)
    return convert_state(tensors, names, leave, recipe)


def check_scheme(key: str, source: str, accepted: str) -> None:
    """Refuses what begins like the name of a published model, `smp:NAME`, but is of no known kind.

    Args:
        key: Beginning of the message.
        source: What is no path of a file that exists.
        accepted: What is, for the message.

    Raises:
        ValueError: It begins with a word and a colon.
    """
    if source.startswith(PACKAGES):
        raise ValueError(
            f"{key}: expected a network with its heads, got {source}, weights of a backbone alone;"
            f" start a run from them: backbone.weights={source}"
        )
    if re.match(r"\w{2,}:", source):  # one letter is a drive of Windows
        raise ValueError(f"{key}: expected {accepted}, got {source}")


def _convert_module(model: nn.Module, names: Sequence[str] | None) -> Conversion:
    package = type(model).__module__.partition(".")[0]
    if package == "timm":
        from densekit.interop.timm import convert_timm

        return convert_timm(model, names)
    if package == "segmentation_models_pytorch":
        from densekit.interop.smp import convert_smp

        return convert_smp(model, names)
    if package == "torchvision":
        from densekit.interop.torchvision import convert_torchvision

        return convert_torchvision(model, names)
    return convert_state(model.state_dict(), names)
