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
        "combine": {name: _named(node) for name, node in model["combine"].items()},
        "input": {key: value for key, value in info.items() if key not in ("heads", "version")},
        "inferer": _named(config["inferer"]) if config.get("inferer") else None,
        "data": sorted(config.get("data") or {}),
        "seed": config.get("seed"),
        "values": sum(tensor.numel() for tensor in tensors if hasattr(tensor, "numel")),
    }


def threshold_lines(head: Mapping[str, Any], most: int = 20) -> list[str]:
    """What a head says of its thresholds, in words.

    Args:
        head: One of `describe(...)["heads"]`.
        most: Most classes that are listed.
    """
    try:
        return [*_best(head, most), *_similarities(head), *_chosen(head)]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        found = {key: head.get(key) for key in ("best_thresholds", "thresholds", "threshold")}
        raise ValueError(f"info: expected thresholds as metrics store them, got {found}") from error


def _best(head: Mapping[str, Any], most: int) -> list[str]:
    if not (best := head.get("best_thresholds")):
        return []
    own = [f"{name} {value:.2f}" for name, value in best["classes"].items()]
    more = [f"... {len(own)} in all"] if len(own) > most else []
    of_classes = f" ({', '.join(own[:most] + more)})" if len(own) > 1 else ""
    return [f"{best['overall']:.2f}, measured: {best['by']}{of_classes}"]


def _similarities(head: Mapping[str, Any]) -> list[str]:
    known = head.get("thresholds", {}).items()
    return [f"similarity {value:.3f} at a false accept rate of {rate}" for rate, value in known]


def _chosen(head: Mapping[str, Any]) -> list[str]:
    values = dict.fromkeys(f"{value:.2f}" for value in head.get("threshold") or ())
    return [f"{', '.join(values)} decides in this file"] if values else []


def _named(node: Mapping[str, Any]) -> dict[str, Any]:
    return {"class": node["_target_"], "settings": settings_of(node)}


def settings_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in a node, without its class."""
    return {key: value for key, value in node.items() if not key.startswith("_")}
