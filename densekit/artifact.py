"""The artifact: one file that holds a trained model and nothing that could run code.

It has three keys: `state_dict` (tensors), `config` (the resolved configuration as YAML text) and
`info` (names, original ids, mean, std, resize rule: plain JSON values). Training checkpoints hold
the same three beside the optimiser's state, so one reader serves both. In a `.safetensors` file
`config` and `info` are metadata.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from densekit._archives import ArchiveError, check_archive, is_archive
from densekit._files import replacing
from densekit._reading import parse_yaml
from densekit._safetensors import is_safetensors, read_safetensors, write_safetensors
from densekit.build import build_model
from densekit.layers import Uninitialised, channels_last_weights
from densekit.trust import check_stored, without_weights

if TYPE_CHECKING:
    from densekit.model import DenseModel

KEYS = ("state_dict", "config", "info")
INFO_TYPES: dict[str, tuple[type, ...]] = {
    "heads": (dict,),
    "resize": (dict, type(None)),
    "mean": (list, tuple),
    "std": (list, tuple),
    "full_scale": (int, float),
    "channel_order": (str,),
    "letters": (dict,),
    "prepared": (dict,),
}
"""Types of the entries of `info` that a model is built from."""
BUILD_ERRORS = (ValueError, TypeError, RuntimeError, ArithmeticError, LookupError, MemoryError)
"""What classes raise for values that they do not take, such as a width of 0."""
_EXTRA_STATE = "_extra_state"
LIGHTNING_PREFIX = "model."
"""Prefix that the LightningModule gives to the names of its DenseModel's tensors."""


class BrokenCheckpointError(ValueError):
    """The file is truncated, damaged or not a checkpoint, e.g. after an interrupted copy."""


def save_artifact(path: str | Path, model: DenseModel, config: str) -> None:
    """Writes a model for `model_from_artifact`, without optimiser state.

    Args:
        path: File to write, `.ckpt` or `.safetensors`; it appears complete or not at all.
        model: The model.
        config: Resolved configuration as YAML text, with `backbone`, `neck` and `heads`.
    """
    write_artifact(path, model.state_dict(), config, model.info)


def write_artifact(
    path: str | Path, state_dict: Mapping[str, Tensor], config: str, info: Mapping[str, Any]
) -> None:
    """Writes the three parts of an artifact; see `save_artifact`."""
    content = {"state_dict": dict(state_dict), "config": config, "info": dict(info)}
    with replacing(path) as part:
        if is_safetensors(path):
            write_safetensors(part, content)
        else:
            torch.save(content, part)


def load_artifact(path: str | Path) -> dict[str, Any]:
    """Reads `state_dict`, `config` and `info` of an artifact or of a training checkpoint.

    `reached` holds the `epoch` and the `step` of a training checkpoint; it is empty for others.

    Raises:
        FileNotFoundError: The file does not exist.
        BrokenCheckpointError: The file is truncated or damaged.
        ValueError: It holds objects other than tensors and plain values, or is not densekit's: a
            key is missing or of another type, or the configuration describes no model.
    """
    content = read_checkpoint(path)
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise ValueError(
            f"{path}: expected a densekit checkpoint with {', '.join(KEYS)}, got one without "
            f"{', '.join(missing)} (keys: {_listed(content)}); densekit convert source={path}"
            " output=FILE.ckpt makes one of another library's weights"
        )
    _check_types(content, path)
    try:
        model_config(content["config"])
    except ValueError as error:
        raise ValueError(f"checkpoint {path}: {error}") from error
    return {
        "state_dict": _own_names(content["state_dict"]),
        "config": content["config"],
        "info": content["info"],
        "reached": {
            name: int(content[key])
            for name, key in {"epoch": "epoch", "step": "global_step"}.items()
            if isinstance(content.get(key), int)
        },
    }


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads the whole content of a checkpoint, tensors and plain values only, onto the CPU.

    Raises:
        FileNotFoundError: The file does not exist.
        BrokenCheckpointError: The file is truncated, damaged or not a checkpoint.
        ValueError: The file holds other objects, which could run code, or something else than a
            dict.
    """
    file = Path(path)
    check_intact(file)
    if is_safetensors(file):
        try:
            return read_safetensors(file)
        except SafetensorError as error:
            raise BrokenCheckpointError(
                f"checkpoint {file}: expected a safetensors file, got: {error}"
            ) from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error) and is_archive(file):
            raise ValueError(
                f"checkpoint {file}: expected only tensors, numbers and text, got other objects, "
                "which can run code when they are loaded"
            ) from error
        raise BrokenCheckpointError(
            f"checkpoint {file}: expected a checkpoint, got {_kind(file)}"
        ) from error
    except Exception as error:  # arbitrary bytes, run as a pickle program, can raise any error
        raise BrokenCheckpointError(
            f"checkpoint {file}: expected a checkpoint, got {_kind(file)}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"checkpoint {file}: expected a dict, got {type(content).__name__}")
    return content


def check_intact(path: str | Path) -> None:
    """Compares the content of a file that torch wrote with the checksums in it.

    Files in safetensors' format, whose checksum covers their values, are compared when read.

    Raises:
        FileNotFoundError: The file does not exist.
        BrokenCheckpointError: It is damaged.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"checkpoint {file}: expected a file, got none there")
    if is_archive(file):
        try:
            check_archive(file)
        except ArchiveError as error:
            raise BrokenCheckpointError(
                f"checkpoint {file}: expected an intact file, got a truncated or damaged file:"
                f" {error}"
            ) from error


def holds_artifact(path: str | Path) -> bool:
    """Whether a file is a checkpoint of densekit, and not one of another library."""
    if Path(path).suffix == ".pkl":  # of another library; torch would warn of its protocol
        return False
    try:
        return set(KEYS) <= read_checkpoint(path).keys()
    except ValueError:
        return False


def model_from_artifact(path: str | Path, trust: Sequence[str] = ()) -> DenseModel:
    """Builds the model that a checkpoint describes and loads its weights.

    Args:
        path: Artifact or training checkpoint.
        trust: Packages besides densekit and installed plug-ins whose classes may be built.

    Raises:
        ValueError: The file is refused, or names a class it may not build (`densekit.trust`).
    """
    return build_from_artifact(load_artifact(path), path, trust)


def build_from_artifact(
    artifact: Mapping[str, Any], path: str | Path, trust: Sequence[str] = ()
) -> DenseModel:
    """Builds the model of an artifact read by `load_artifact`; see `model_from_artifact`."""
    try:
        with Uninitialised():
            model = untrained(artifact, trust)
    except BUILD_ERRORS as error:
        detail = str(error)
        if "expected" not in detail:  # what a class or torch says of a value that it cannot take
            first = detail.strip().partition("\n")[0][:200]
            detail = f"expected a config that can be built, got {type(error).__name__}: {first}"
        raise ValueError(f"checkpoint {path}: {detail}") from error
    channels_last_weights(model)  # the faster layout, and the one it was trained in
    try:
        model.load_state_dict(artifact["state_dict"])
    except RuntimeError as error:
        _, *found = (line.strip() for line in str(error).splitlines())
        detail = f"{(found or [str(error)])[0][:200]} ({len(found)} such lines)"
        raise ValueError(
            f"checkpoint {path}: expected weights that fit its config, got: {detail}"
        ) from error
    check_finite_weights(dict(model.named_parameters()), path)
    return model


def check_finite_weights(weights: Mapping[str, torch.Tensor], path: str | Path) -> None:
    """Refuses the weights of a training that diverged.

    Args:
        weights: Name to tensor.
        path: The checkpoint that holds them.

    Raises:
        ValueError: A weight is NaN or infinite.
    """
    for name, value in weights.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"checkpoint {path}: expected finite weights, got NaN or infinite ones in {name}:"
                " its training diverged"
            )


def untrained(artifact: Mapping[str, Any], trust: Sequence[str] = ()) -> DenseModel:
    """Builds the model that an artifact's configuration describes, without loading its weights.

    Raises:
        ValueError: It names a class that a stored configuration may not build, see
            `densekit.trust`.
    """
    cfg = model_config(artifact["config"])
    check_stored(cfg, trust)
    return build_model(cfg, artifact["info"])


def model_config(text: str) -> dict[str, Any]:
    """Returns the model's parts of a stored configuration, without pretrained weights.

    Raises:
        ValueError: It is not YAML, or a part of the model is missing or of another type.
    """
    cfg = parse_yaml(text, "config of the checkpoint")
    if not isinstance(cfg, dict) or not {"backbone", "heads"} <= cfg.keys():
        raise ValueError(
            "config of the checkpoint: expected the keys backbone and heads, got"
            f" {str(cfg)[:100]!r}"
        )
    if not isinstance(cfg["heads"], dict):
        raise ValueError(f"heads: expected heads by name, got {str(cfg['heads'])[:100]!r}")
    combine = cfg.get("combine") or {}
    if not isinstance(combine, dict):
        raise ValueError(f"combine: expected combinations by name, got {str(combine)[:100]!r}")
    nodes = {f"heads.{name}": node for name, node in cfg["heads"].items()}
    nodes |= {f"combine.{name}": node for name, node in combine.items()}
    nodes["backbone"] = cfg["backbone"]
    if cfg.get("neck") is not None:
        nodes["neck"] = cfg["neck"]
    for key, node in nodes.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise ValueError(f"{key}: expected a class and its settings, got {str(node)[:100]!r}")
    # The state dict holds the weights: nothing is downloaded and no path of the config opened.
    parts = ("backbone", "neck", "heads")
    return {key: without_weights(cfg.get(key)) for key in parts} | {"combine": dict(combine)}


def _check_types(content: Mapping[str, Any], path: str | Path) -> None:
    """Refuses a file whose entries are not of the expected types."""
    kinds: dict[str, tuple[type, ...]] = {"state_dict": (dict,), "config": (str,), "info": (dict,)}
    for key, kind in kinds.items():
        _check_type(content[key], key, kind, path)
    for name, value in content["state_dict"].items():
        _check_type(name, f"state_dict, the name {name!r}", (str,), path)
        if not name.endswith(_EXTRA_STATE):  # plain values that a module stores beside its tensors
            _check_type(value, f"state_dict[{name!r}]", (Tensor,), path)
    info = content["info"]
    for key, kind in INFO_TYPES.items():
        if key in info:
            _check_type(info[key], f"info.{key}", kind, path)
    for key in ("mean", "std"):
        for value in info.get(key, ()):
            _check_type(value, f"info.{key}, an entry", (int, float), path)
    for key in ("heads", "prepared"):
        for head, known in info.get(key, {}).items():
            _check_type(known, f"info.{key}.{head}", (dict,), path)


def _check_type(value: Any, key: str, kinds: tuple[type, ...], path: str | Path) -> None:
    if not isinstance(value, kinds):
        accepted = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(
            f"checkpoint {path}: {key}: expected {accepted}, got {type(value).__name__}"
        )


def _listed(content: Mapping[Any, Any], most: int = 6) -> str:
    names = sorted(map(str, content))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))


def _own_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The DenseModel's tensors, without the LightningModule's prefix."""
    own = {
        name.removeprefix(LIGHTNING_PREFIX): value
        for name, value in state_dict.items()
        if name.startswith(LIGHTNING_PREFIX)
    }
    return own or dict(state_dict)


def _kind(file: Path) -> str:
    """The kind of a file that is not a checkpoint; of text, e.g. an HTML page, its first line."""
    if is_archive(file):
        return "a truncated or damaged file"
    with file.open("rb") as stream:
        begin = stream.read(60).lstrip().partition(b"\n")[0]
    try:
        text = begin.decode("utf-8").strip()
    except UnicodeDecodeError:
        text = ""
    is_text = text.isprintable() and len(text) > 4
    return f"text: {text!r}" if is_text else "a file of another kind or a damaged one"
