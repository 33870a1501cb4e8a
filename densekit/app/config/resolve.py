"""Resolves a composed configuration into the one that a run stores and its workers read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from densekit.app.config.data_checks import check_heads
from densekit.app.config.data_info import common_value, data_info_of
from densekit.app.config.targets import arguments
from densekit.app.errors import UsageError
from densekit.build import check_targets, instantiate, walk


def describe_data(cfg: DictConfig) -> dict[str, Any]:
    """Builds the data sets, and sets the channels of the backbone.

    A data set without `heads` is for all of them.

    Returns:
        The data sets by name.

    Raises:
        UsageError: A data set is for an unknown head, or a value of `data` is missing.
    """
    data = data_nodes(cfg)
    sources = build_sources(data, int(OmegaConf.select(cfg, "seed") or 0))
    check_heads(sources, cfg.heads)
    with data_info_of(sources):
        _set_backbone(cfg, "in_channels", common_value(sources, list(sources), "channels"))
        if any("spatial_dims" in source.describe() for source in sources.values()):
            _set_backbone(cfg, "spatial_dims", common_value(sources, list(sources), "spatial_dims"))
    return sources


def data_nodes(cfg: DictConfig) -> dict[str, Any]:
    """The resolved nodes of the data sets, checked but not built.

    Raises:
        UsageError: A value of `data` is missing, or a folder does not exist.
    """
    with open_dict(cfg):
        for name in cfg.data:
            cfg.data[name].setdefault("heads", list(cfg.heads))
    data = _plain(cfg, "data")
    _check_roots(data)
    for name, node in data.items():
        check_targets({"data": {name: node}}, list(cfg.trust))
    return data


def build_sources(data: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Builds data sets from a fixed seed, so that they are the same in every process."""
    import random

    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return {name: instantiate(node, f"data.{name}") for name, node in data.items()}


def _check_roots(data: Mapping[str, Any]) -> None:
    """Refuses a missing folder before the classes that read it are imported."""
    for key, node in walk(data, "data"):
        ours = isinstance(node, Mapping) and str(node.get("_target_")).startswith("densekit.")
        root = node.get("root") if ours else None
        if isinstance(root, str) and not Path(root).exists():
            raise UsageError(f"{key}.root: expected an existing folder, got {root}")


def resolve(cfg: DictConfig, sources: Mapping[str, Any]) -> dict[str, Any]:
    """Resolves a configuration, with `${data_info:...}` from the data sets of `describe_data`.

    Returns:
        Plain values without interpolations: everything that a worker or a later `eval` needs.

    Raises:
        UsageError: A value is missing or an interpolation leads nowhere.
    """
    with data_info_of(sources):
        plain = _plain(cfg)
    check_targets(plain, plain["trust"])
    return plain


def _set_backbone(cfg: DictConfig, argument: str, value: int) -> None:
    """Sets an argument of the backbone, if it accepts the argument and it is not yet set."""
    accepted = arguments(cfg.backbone, "backbone", list(cfg.trust))
    if accepted is not None and argument in accepted and argument not in cfg.backbone:
        with open_dict(cfg):
            cfg.backbone[argument] = value


def _plain(cfg: DictConfig, key: str = "") -> dict[str, Any]:
    try:
        node = OmegaConf.select(cfg, key) if key else cfg
        plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise UsageError(_first_line(error)) from error
    assert isinstance(plain, dict)
    return {str(name): value for name, value in plain.items()}


def _first_line(error: OmegaConfBaseException) -> str:
    cause = error.__cause__
    message = str(cause if isinstance(cause, UsageError) else error).splitlines()[0]
    return f"{error.full_key}: {message}" if error.full_key else message
