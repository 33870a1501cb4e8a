"""Pretrained weights: where they come from, and how 2-D RGB weights fit another network."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from pathlib import Path
from urllib.parse import urlparse

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from densekit._names import choose

log = logging.getLogger(__name__)

State = dict[str, Tensor]
SUFFIXES = (".pth", ".pt", ".th", ".ckpt", ".safetensors")
FIRST_CONV = "conv1.weight"
FIRST_BLOCK = "layer1.0.conv1.weight"
COUNTER = "num_batches_tracked"
_HASH_IN_FRAGMENT = re.compile(r"sha256=([a-fA-F0-9]{8,64})")
_HASH_IN_NAME = re.compile(r"-([a-f0-9]{8,})\.")


def read_weights(weights: str | PathLike[str], architecture: str | None) -> State:
    """Reads a state dict from wherever the setting points.

    Args:
        weights: Name of torchvision's weights, path of a file, or URL with its hash.
        architecture: torchvision's name of the network; None if it has no weights for it.

    Raises:
        ValueError: If the setting is none of the three, or the file holds no tensors.
        ConnectionError: If the file cannot be fetched.
    """
    weights = fspath(weights)
    if weights.startswith(("https://", "http://")):
        return read_file(fetch(weights))
    if weights.endswith(SUFFIXES):
        return read_file(Path(weights))
    if architecture is None:
        raise ValueError(
            f"weights: torchvision has none for a network of these settings; {weights!r} must be"
            f" a URL or the path of a {', '.join(SUFFIXES)} file"
        )
    from torchvision.models import get_model_weights

    entries = get_model_weights(architecture).__members__
    return read_file(fetch(choose(f"weights of {architecture}", weights, entries).url))


def fetch(url: str) -> Path:
    """Downloads a file into torch's cache unless it is there, and checks its hash.

    Raises:
        ValueError: If the URL has no hash.
        ConnectionError: If the file cannot be fetched or is not the one the hash names.
    """
    address, _, fragment = url.partition("#")
    name = Path(urlparse(address).path).name
    if given := _HASH_IN_FRAGMENT.fullmatch(fragment):
        digest = given[1].lower()
        # Many sites call every file model.safetensors: the cache must tell them apart.
        name = f"{Path(name).stem}-{digest}{Path(name).suffix}"
    elif found := _HASH_IN_NAME.search(name):
        digest = found[1]
    else:
        raise ValueError(
            f"weights: {url} has no hash; append '#sha256=...' (of at least 8 digits)"
            " or use a file named like resnet50-0676ba61.pth"
        )
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        log.info("downloading %s to %s", address, path)
        try:
            torch.hub.download_url_to_file(address, str(path), digest)
        except (OSError, RuntimeError) as error:
            raise ConnectionError(f"weights: cannot fetch {address} to {path}: {error}") from error
    return path


def read_file(path: Path) -> State:
    """Reads the tensors of a .safetensors or torch file; of a checkpoint, its weights.

    Raises:
        ValueError: If the file is missing, truncated, or holds anything but tensors and numbers.
    """
    if not path.is_file():
        raise ValueError(f"weights: there is no file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(f"weights: {path} is not a readable file of tensors: {error}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(t, Tensor) for t in content.values()):
        raise ValueError(f"weights: {path} holds no state dict")
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def load_weights(
    network: nn.Module,
    state: State,
    *,
    in_channels: int,
    spatial_dims: int,
    classifier: tuple[str, ...],
) -> None:
    """Loads a ResNet's state dict, adapted where the network is not for 2-D RGB.

    The network may sit below a prefix, as in a detector's checkpoint. Logs what was left out.

    Args:
        network: Gets the weights.
        state: Names and tensors.
        in_channels: Of the network's image.
        spatial_dims: 1, 2 or 3.
        classifier: What the names of tensors begin with that are left out.

    Raises:
        ValueError: If keys are missing, shapes differ, or the file has layers the network has not.
    """
    state, dropped = _without_prefix(state)
    dropped += [key for key in state if key.startswith(classifier)]
    state = {key: value for key, value in state.items() if not key.startswith(classifier)}
    state = {key: inflate(value, spatial_dims) for key, value in state.items()}
    if FIRST_CONV in state and state[FIRST_CONV].shape[1] != in_channels:
        given = state[FIRST_CONV].shape[1]
        log.warning("first convolution adapted from %d to %d channels", given, in_channels)
        state[FIRST_CONV] = adapt_channels(state[FIRST_CONV], in_channels)
    _check_fit(network.state_dict(), state)
    # Not strict about the counters alone: old files have none, and only batch norm counts.
    network.load_state_dict(state, strict=False)
    log.info("loaded %d tensors, left out: %s", len(state), _abridged(dropped))


def inflate(weight: Tensor, spatial_dims: int) -> Tensor:
    """Makes a 2-D convolution's weight 3-D or 1-D; any other tensor is returned as it is.

    On an image that is constant along the third axis (3-D), or of which the series is every row
    (1-D), the answer is the 2-D one. Paper: Quo Vadis, Action Recognition? (I3D), section 2.4.

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
    """Makes a first convolution's weight accept another number of channels.

    One channel gets the sum, so that a grey image is answered as its RGB copy was. More repeat the
    given ones, scaled so that the response keeps its size.

    Args:
        weight: (O, I, *k).
        in_channels: N; the result is (O, N, *k).
    """
    given = weight.shape[1]
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    repeated = torch.arange(in_channels, device=weight.device) % given
    return weight[:, repeated] * (given / in_channels)


def _without_prefix(state: State) -> tuple[State, list[str]]:
    """The network's own entries without the prefix of their keys, and the keys of all others."""
    prefixes = {
        key.removesuffix(FIRST_CONV)
        for key in state
        if key.endswith(FIRST_CONV) and key.removesuffix(FIRST_CONV) + FIRST_BLOCK in state
    }
    if prefixes == {""} or not prefixes:
        return state, []
    if len(prefixes) > 1:
        found = ", ".join(repr(prefix) for prefix in sorted(prefixes))
        raise ValueError(f"weights: the file holds several networks, below {found}")
    (prefix,) = prefixes
    own = {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}
    return own, [key for key in state if not key.startswith(prefix)]


def _check_fit(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    missing = [key for key in expected if key not in given and not key.endswith(COUNTER)]
    foreign = [key for key in given if key not in expected and not key.endswith(COUNTER)]
    reshaped = [
        f"{key} is {tuple(given[key].shape)} and should be {tuple(expected[key].shape)}"
        for key in expected
        if key in given and given[key].shape != expected[key].shape
    ]
    complaints = {
        "missing in the file": missing,
        "not in this network": foreign,
        "of another shape": reshaped,
    }
    found = [f"{what}: {_abridged(keys)}" for what, keys in complaints.items() if keys]
    if found:
        raise ValueError(f"weights: the file does not fit this network; {'; '.join(found)}")


def _abridged(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest if names else "nothing"
