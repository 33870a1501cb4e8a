"""Starting from a converted model: it brings its own architecture, which nobody need repeat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from densekit.app.config.compose import apply_values
from densekit.app.config.data_info import MODEL_KEYS
from densekit.app.config.overrides import Overrides
from densekit.app.errors import UsageError
from densekit.app.run.stored import RUN_KEYS
from densekit.app.terminal import print_lines

OF_TRAINING = ("losses", "loss_weights", "classifier", "pair_losses")
"""Arguments of heads that are about training alone: those of the configuration hold."""
PARTS = ("backbone", "neck", "heads")


def is_of_run(config: Mapping[str, Any]) -> bool:
    """Whether a stored configuration is that of a run, not of a model alone."""
    return all(key in config for key in RUN_KEYS)


def take_architecture(cfg: DictConfig, overrides: Overrides) -> None:
    """Takes backbone, neck and the heads of the same names from a checkpoint of a model alone.

    A checkpoint of a run changes nothing: the configuration must fit it. Also kept is what the
    network must see: channel order, mean and std. A backbone chosen on the command line stays, and
    single values given there hold for the parts that are taken.

    Raises:
        UsageError: A head or the neck is of another class.
    """
    from densekit.artifact import load_artifact, model_config
    from densekit.trust import check_stored

    artifact = load_artifact(cfg.checkpoint)
    if cfg.keep_heads or is_of_run(yaml.safe_load(artifact["config"])):
        return
    there, info = model_config(artifact["config"]), artifact["info"]
    check_stored({**there, "info": info}, list(cfg.trust))
    taken = []
    with open_dict(cfg):
        if "backbone" not in overrides.choices.keys:
            cfg.backbone = there["backbone"]
            taken.append("backbone")
        if any(name.startswith("neck.") for name in artifact["state_dict"]):
            cfg.neck = _same_class(cfg, "neck", there["neck"])
            taken.append("neck")
        for name in _shared_heads(cfg, there["heads"]):
            cfg.heads[name] = _head(cfg, name, there["heads"][name])
            taken.append(f"heads.{name}")
        cfg.kept = {"heads": {}, "input": {key: info[key] for key in MODEL_KEYS if key in info}}
        cfg.expected = {}  # results of another architecture
    print_lines(f"as in {cfg.checkpoint}: {', '.join(taken)}")
    below = tuple(f"{part}." for part in PARTS)
    apply_values(cfg, overrides.values.where(lambda word: word.key.startswith(below)), cfg.trust)


def _shared_heads(cfg: DictConfig, there: Mapping[str, Any]) -> list[str]:
    """Heads that both have and that do not start afresh."""
    reset = cfg.reset_head
    names = [str(name) for name in cfg.heads if name in there]
    if isinstance(reset, bool):
        return [] if reset else names
    return [name for name in names if name not in reset]


def _head(cfg: DictConfig, name: str, there: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint's head, for the classes of the data and with the losses of this training."""
    node = _same_class(cfg, f"heads.{name}", there)
    own: Any = OmegaConf.to_container(cfg.heads[name])
    of_data = {k: v for k, v in own.items() if isinstance(v, str) and "${data_info" in v}
    training = {key: own[key] for key in OF_TRAINING if key in own}
    return {key: node[key] for key in node if key not in OF_TRAINING} | training | of_data


def _same_class(cfg: DictConfig, key: str, there: Mapping[str, Any]) -> dict[str, Any]:
    node = OmegaConf.select(cfg, key)
    own = node._target_ if node else "nothing"
    if own != there["_target_"]:
        mend = f"; reset_head=[{key[6:]}] starts it afresh" if key.startswith("heads.") else ""
        raise UsageError(
            f"{key}: expected {there['_target_']}, as in checkpoint={cfg.checkpoint}, got {own}"
            f"{mend}"
        )
    return dict(there)
