"""Adding a head to a trained model: what is there stays as it is, beside the new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from densekit._names import unknown
from densekit.app.config.data_info import MODEL_KEYS
from densekit.app.errors import UsageError


def keep_heads(cfg: DictConfig) -> list[str]:
    """Takes backbone, neck and the heads of `keep_heads` from `checkpoint`, to be frozen.

    The network must see what it saw: resize rule, mean, std and what else the checkpoint knows of
    its input hold for the new head, too.

    Returns:
        Names of the heads that are kept.

    Raises:
        UsageError: There is no checkpoint, or a head is not in it, or is chosen anew as well.
    """
    names = [str(name) for name in cfg.get("keep_heads") or ()]
    if not names or cfg.kept:  # `kept` is there in a run that is resumed
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
            raise UsageError(f"keep_heads: heads.{name} is chosen anew as well: ~heads.{name}")
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
    """The model's `info` with what a checkpoint knows of the heads that were kept.

    Raises:
        UsageError: The data have other channels than the checkpoint's network.
    """
    if not kept:
        return dict(info)
    seen = kept["input"]
    if info["channels"] != seen.get("channels", info["channels"]):
        raise UsageError(
            f"keep_heads: the data have {info['channels']} channels, the checkpoint's network"
            f" takes {seen['channels']}"
        )
    both = {**info, **seen, "heads": {**info["heads"], **kept["heads"]}}
    prepared = {**info.get("prepared", {}), **kept.get("prepared", {})}
    return both | ({"prepared": prepared} if prepared else {})
