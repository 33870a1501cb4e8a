"""Adds a head to a trained model, whose other parts stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from densekit._names import unknown
from densekit.app.config.data_info import MODEL_KEYS
from densekit.app.errors import UsageError


def keep_heads(cfg: DictConfig) -> list[str]:
    """Takes backbone, neck and the heads in `keep_heads` from `checkpoint` and freezes them.

    The network must see the input it was trained on: the checkpoint's resize rule, mean, std and
    other facts about its input also hold for the new head.

    Returns:
        Names of the heads that are kept.

    Raises:
        UsageError: There is no checkpoint, or a head is not in it or is also a new one.
    """
    names = [str(name) for name in cfg.get("keep_heads") or ()]
    if not names or cfg.kept:  # a resumed run has `kept` already
        return names
    if not cfg.checkpoint:
        raise UsageError(
            "checkpoint: expected the model whose heads are kept, got nothing; checkpoint=PATH"
        )
    from densekit.artifact import load_artifact, model_config
    from densekit.trust import check_stored

    artifact = load_artifact(cfg.checkpoint)
    there = model_config(artifact["config"])
    info = artifact["info"]
    check_stored({**there, "info": info}, list(cfg.trust))
    new = [str(name) for name in cfg.heads]
    for name in names:
        if name not in there["heads"]:
            raise UsageError(unknown("keep_heads", name, there["heads"]))
        if name in new:
            raise UsageError(
                f"keep_heads: expected heads that are not also configured as new ones, got {name};"
                f" remove the new one by ~heads.{name}"
            )
    frozen = ["backbone", *(f"heads.{name}" for name in names)]
    if any(key.startswith("neck.") for key in artifact["state_dict"]):
        frozen.append("neck")
        cfg.neck = there["neck"]
    with open_dict(cfg):
        for source in cfg.data.values():
            source.setdefault("heads", new)
        for name in names:
            cfg.heads[name] = there["heads"][name]
        cfg.backbone = there["backbone"]
        cfg.resize = info.get("resize")
        transfer = {"_target_": "densekit.training.Transfer", "frozen": frozen}
        OmegaConf.update(cfg, "training.transfer", transfer)
        cfg.kept = {
            "heads": {name: info.get("heads", {}).get(name, {}) for name in names},
            "input": {key: info[key] for key in MODEL_KEYS if key in info},
            "prepared": {k: v for k, v in info.get("prepared", {}).items() if k in names},
        }
    return names


def with_kept(info: Mapping[str, Any], kept: Mapping[str, Any] | None) -> dict[str, Any]:
    """Adds to the model's `info` what a checkpoint knows of its input and of the kept heads.

    Raises:
        UsageError: The data do not have the channels of the checkpoint's network.
    """
    if not kept:
        return dict(info)
    seen = kept["input"]
    if info["channels"] != seen.get("channels", info["channels"]):
        raise UsageError(
            f"checkpoint: expected data of {seen['channels']} channels, as the checkpoint's network"
            f" takes, got {info['channels']}"
        )
    both = {**info, **seen, "heads": {**info["heads"], **kept["heads"]}}
    prepared = {**info.get("prepared", {}), **kept.get("prepared", {})}
    return both | ({"prepared": prepared} if prepared else {})
