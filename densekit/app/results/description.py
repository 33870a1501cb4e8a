"""What an artifact contains, as plain values for `densekit info` and for a model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def describe(artifact: Mapping[str, Any]) -> dict[str, Any]:
    """Describes an artifact in plain values.

    Args:
        artifact: What `load_artifact` returns.
    """
    import yaml

    from densekit.artifact import model_config

    model, config = model_config(artifact["config"]), yaml.safe_load(artifact["config"])
    info = artifact["info"]
    known = info.get("heads", {})
    tensors = artifact["state_dict"].values()
    heads = {
        name: {"class": node["_target_"], "settings": settings_of(node)} | dict(known.get(name, {}))
        for name, node in model["heads"].items()
    }
    return {
        "version": info.get("version"),
        "backbone": _named(model["backbone"]),
        "neck": _named(model["neck"]) if model["neck"] else None,
        "heads": heads,
        "input": {key: value for key, value in info.items() if key not in ("heads", "version")},
        "inferer": _named(config["inferer"]) if config.get("inferer") else None,
        "data": sorted(config.get("data") or {}),
        "seed": config.get("seed"),
        "values": sum(tensor.numel() for tensor in tensors if hasattr(tensor, "numel")),
    }


def _named(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"class": node["_target_"], "settings": settings_of(node)}


def settings_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in a node, without its class."""
    return {key: value for key, value in node.items() if not key.startswith("_")}
