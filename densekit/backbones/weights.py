"""Pretrained weights: reading, downloading, and adapting 2-D RGB weights to other networks."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from densekit._names import choose
from densekit.backbones.base import Statistics
from densekit.backbones.layouts import caffe_resnet_onnx, efficientnet
from densekit.backbones.packaged import SCHEME, installed, locate, packaged
from densekit.backbones.unwrapping import chosen_prefix, is_of_pretraining, tensors_of
from densekit.backbones.values import check_values

log = logging.getLogger(__name__)

State = dict[str, Tensor]
TORCHVISION, TIMM = "torchvision:", "timm:"
ADDRESSES = ("https://", "http://")
SUFFIXES = (".pth", ".pt", ".th", ".ckpt", ".safetensors")
COUNTER = "num_batches_tracked"
_HASH_IN_FRAGMENT = re.compile(r"sha256=([a-fA-F0-9]{8,64})")
_HASH_IN_NAME = re.compile(r"-([a-f0-9]{8,})\.")


def read_weights(weights: str | PathLike[str], architecture: str | None = None) -> State:
    """Reads a state dict from a package, torchvision, timm, a file or a URL.

    Args:
        weights: `pip:PACKAGE`, `torchvision:NAME`, `timm:NAME`, path of a file, URL with its hash,
            or the name of torchvision's weights for the architecture.
        architecture: torchvision's name of the network; None if it has no weights for it.

    Raises:
        ValueError: The setting is none of these, or the file holds no tensors.
        ConnectionError: The file cannot be downloaded.
        ModuleNotFoundError: The package is not installed.
    """
    weights = fspath(weights)
    if weights.startswith(SCHEME):
        path = locate(weights)
        # The two layouts of `densekit.backbones.packaged`.
        return caffe_resnet_onnx(path) if path.suffix == ".onnx" else efficientnet(read_file(path))
    if weights.startswith(ADDRESSES):
        return read_file(fetch(weights))
    if weights.startswith(TIMM):
        return _of_timm(weights.removeprefix(TIMM))
    if weights.startswith(TORCHVISION):
        architecture, _, entry = weights.removeprefix(TORCHVISION).partition(".")
        return read_file(fetch(_torchvision_url(architecture, entry or "DEFAULT")))
    if weights.endswith(SUFFIXES):
        return read_file(Path(weights))
    if architecture is None or re.search(r"[./:]", weights):  # no name of an entry
        why = "" if architecture else ", as torchvision has no weights for these settings"
        raise ValueError(_unknown_source(weights, why))
    return read_file(fetch(_torchvision_url(architecture, weights)))


def check_source(weights: str) -> None:
    """Refuses weights that are not there: another form, no such package, file or name.

    Nothing is downloaded, and the file is not opened.

    Args:
        weights: See `read_weights`; of a name alone only the network knows whether it is right.

    Raises:
        ValueError: Says what is expected.
        ModuleNotFoundError: The package is not installed.
    """
    if weights.startswith(SCHEME):
        installed(weights)
    elif weights.startswith(TORCHVISION):
        name, _, entry = weights.removeprefix(TORCHVISION).partition(".")
        _torchvision_url(name, entry or "DEFAULT")
    elif weights.endswith(SUFFIXES) and not weights.startswith(ADDRESSES):
        if not Path(weights).is_file():
            raise ValueError(f"weights: expected a file, got none at {weights}")
    elif not weights.startswith((TIMM, *ADDRESSES)) and re.search(r"[./:]", weights):
        raise ValueError(_unknown_source(weights))


def _unknown_source(weights: str, why: str = "") -> str:
    return (
        f"weights: expected a URL, {SCHEME}PACKAGE, {TORCHVISION}NAME, {TIMM}NAME or the path"
        f" of a {', '.join(SUFFIXES)} file{why}, got {weights!r}"
    )


def _torchvision_url(architecture: str, entry: str) -> str:
    from torchvision.models import get_model_weights, list_models

    choose(f"weights: {TORCHVISION}NAME", architecture, dict.fromkeys(list_models()))
    entries = get_model_weights(architecture).__members__
    return str(choose(f"weights of {architecture}", entry, entries).url)


def _of_timm(name: str) -> State:
    import timm

    tagged = timm.list_models(pretrained=True)
    choose(f"weights: {TIMM}NAME", name, dict.fromkeys([*tagged, *timm.list_models()]))
    try:
        state: State = timm.create_model(name, pretrained=True).state_dict()
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(
            f"weights: expected timm's weights of {name} to download, got: {reason}"
        ) from error
    return state


def statistics_of(weights: str | PathLike[str]) -> Statistics | None:
    """What images the weights were trained on, if their source says so."""
    weights = fspath(weights)
    if not weights.startswith(SCHEME):
        return None
    entry = packaged(weights)
    return Statistics(entry.mean, entry.std)


def fetch(url: str) -> Path:
    """Downloads a file into torch's cache unless it is there, checks its hash, returns its path.

    Raises:
        ValueError: The URL has no hash.
        ConnectionError: The file cannot be downloaded, or its hash differs.
    """
    address, _, fragment = url.partition("#")
    name = Path(urlparse(address).path).name
    if given := _HASH_IN_FRAGMENT.fullmatch(fragment):
        digest = given[1].lower()
        # Many sites name every file model.safetensors: the cache must tell them apart.
        name = f"{Path(name).stem}-{digest}{Path(name).suffix}"
    elif found := _HASH_IN_NAME.search(name):
        digest = found[1]
    else:
        raise ValueError(
            f"weights: expected a URL with a hash, got {url}; append '#sha256=...' (at least 8"
            " digits) or use a file named like resnet50-0676ba61.pth"
        )
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        log.info("downloading %s to %s", address, path)
        try:
            torch.hub.download_url_to_file(address, str(path), digest)
        except (OSError, RuntimeError) as error:
            raise ConnectionError(
                f"weights: expected {address} to download to {path}, got: {error}"
            ) from error
    return path


def read_file(path: Path) -> State:
    """Reads the tensors of a .safetensors or torch file; of a checkpoint, its weights.

    Raises:
        ValueError: The file is missing, truncated, or holds anything but tensors and numbers.
    """
    if not path.is_file():
        raise ValueError(f"weights: expected a file, got none at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"weights: expected a readable file of tensors, got {path}: {error}"
        ) from error
    tensors = tensors_of(content) if isinstance(content, Mapping) else {}
    if not tensors:
        raise ValueError(f"weights: expected a state dict, got none in {path}")
    return tensors


def load_weights(
    network: nn.Module,
    state: State,
    *,
    in_channels: int,
    spatial_dims: int = 2,
    first_convs: Sequence[str],
    left_out: tuple[str, ...],
) -> None:
    """Loads a state dict, adapted if the network is not for 2-D RGB images.

    Keys may have a common prefix, as in a detector's checkpoint. Logs what is left out.

    Args:
        network: The network that receives the weights.
        state: Names and tensors.
        in_channels: Channels of the network's image.
        spatial_dims: 1, 2 or 3.
        first_convs: Names of the weights that are convolved with the image.
        left_out: Prefixes of the tensors that are left out, such as a classifier's.

    Raises:
        ValueError: Keys are missing, shapes differ, the file has layers the network lacks, or
            values that are no weights.
    """
    own = network.state_dict()
    state, dropped = _without_prefix(state, own)
    dropped += [
        key
        for key in state
        if key not in own and (key.startswith(left_out) or is_of_pretraining(key))
    ]
    state = {key: value for key, value in state.items() if key not in dropped}
    check_values("weights", state)
    state = {key: inflate(value, spatial_dims) for key, value in state.items()}
    for key in first_convs:
        if key in state and state[key].shape[1] != in_channels:
            given = state[key].shape[1]
            log.warning("adapted the first convolution from %d to %d channels", given, in_channels)
            state[key] = adapt_channels(state[key], in_channels)
    _check_fit(own, state)
    # Not strict because of the counters: old files have none, and only batch norm has them.
    network.load_state_dict(state, strict=False)
    log.info("loaded %d tensors, left out: %s", len(state), _abridged(dropped))


def inflate(weight: Tensor, spatial_dims: int) -> Tensor:
    """Makes a 2-D convolution's weight 3-D or 1-D; returns any other tensor unchanged.

    A volume that repeats a 2-D image in every slice, or a series that is every row of an image,
    gets the response of that image. Paper: Quo Vadis, Action Recognition? (I3D), section 2.4.

    Args:
        weight: (O, I, k, k); becomes (O, I, k, k, k) or (O, I, k).
        spatial_dims: 1, 2 or 3.
    """
    if weight.ndim != 4 or spatial_dims == 2:
        return weight
    if spatial_dims == 1:
        return weight.sum(2)
    depth = weight.shape[-1]
    return weight.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth


def adapt_channels(weight: Tensor, in_channels: int) -> Tensor:
    """Adapts a first convolution's weight to another number of channels.

    A single channel gets the sum, so that a grey image has the response of its RGB copy. More
    channels repeat the given ones, scaled to keep the magnitude of the response.

    Args:
        weight: (O, I, *k).
        in_channels: N, the new number of channels; the result is (O, N, *k).
    """
    given = weight.shape[1]
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = torch.arange(in_channels, device=weight.device) % given
    return weight[:, repeated] * (given / in_channels)


def _without_prefix(state: State, own: State) -> tuple[State, list[str]]:
    """The network's entries without their common prefix, and the keys of all other entries."""
    first, second = [key for key, value in own.items() if value.ndim > 1][:2]
    prefixes = {
        key.removesuffix(first)
        for key in state
        if key.endswith(first) and key.removesuffix(first) + second in state
    }
    if prefixes == {""} or not prefixes:
        return state, []
    prefix = chosen_prefix(prefixes)
    if prefix is None:
        found = ", ".join(repr(prefix) for prefix in sorted(prefixes))
        raise ValueError(f"weights: expected a file of one network, got several, below {found}")
    own_part = {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}
    return own_part, [key for key in state if not key.startswith(prefix)]


def _check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    missing = [key for key in expected if key not in given and not key.endswith(COUNTER)]
    foreign = [key for key in given if key not in expected and not key.endswith(COUNTER)]
    reshaped = [
        f"{key} expected {tuple(expected[key].shape)}, got {tuple(given[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    differences = {
        "missing in the file": missing,
        "not in this network": foreign,
        "of another shape": reshaped,
    }
    found = [f"{what}: {_abridged(keys)}" for what, keys in differences.items() if keys]
    if found:
        raise ValueError(
            f"weights: expected a file that fits this network, got tensors {'; '.join(found)}"
        )


def _abridged(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "nothing"
