"""Which settings may change beside `resume=`: those that take effect in the same run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from densekit.app.config.compose import compose
from densekit.app.config.overrides import Overrides
from densekit.app.config.quoting import is_path_key
from densekit.app.errors import UsageError
from densekit.trust import MODEL, without_weights

COMMAND_KEYS = ("command", "split", "artifact", "objective", "direction")
"""Keys that a command stores beside the configuration."""
MAY_CHANGE = (
    *("callbacks", "inferer", "logger", "metrics", "paths", "precision", "resume", "run_name"),
    *("on_broken", "schedule", "test", "trainer", "trust", "vars", *COMMAND_KEYS),
    *("expected", "assert_expected", "progress", "profile"),
    *("optimizer.lr", "optimizer.weight_decay", "training.compile"),
)
"""Keys that may change, with all keys below them; `vars` are resolved where they are used."""
GROUPS = ("backbone", "callbacks", "logger", "metrics", "optimizer", "schedule", "trainer")
"""Groups whose choice replaces one stored node; any other group calls for a new configuration.

A backbone or an optimiser must be the stored one; any other is refused at the key that differs.
"""
CHANGEABLE_DATA_KEYS = ("batch_size", "eval_batch_size", "num_workers", "test", "cache")
"""What may change in a data set, besides the paths of its files.

The batch size only together with the number of processes, see `check_images_per_step`.
"""


def chosen(choices: Overrides, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """Composes the nodes of groups that are chosen anew, without resolving them.

    Args:
        choices: Choices of `GROUPS`, such as `logger=wandb`.
        trainer: The stored settings, which stay where the chosen option has the default.
    """
    if not choices.words:
        return {}
    fresh = compose(choices).cfg
    nodes = {group: _plain(fresh, group) for group in choices.keys}
    if "trainer" in nodes:
        default = _plain(compose(Overrides(())).cfg, "trainer")
        own = {key: value for key, value in nodes["trainer"].items() if default.get(key) != value}
        nodes["trainer"] = {**trainer, **own}
    return nodes


def _plain(cfg: DictConfig, key: str) -> Any:
    return OmegaConf.to_container(cfg[key], resolve=False)


def check_continues(cfg: Mapping[str, Any], sources: Mapping[str, Any], processes: int) -> None:
    """Refuses what would make a resumed run a different one, once its values are resolved.

    Args:
        cfg: Resolved configuration of the resumed run.
        sources: Its data sets by name.
        processes: Number of processes that will train.
    """
    from densekit.artifact import load_artifact, read_checkpoint
    from densekit.data.module import DataModule, check_images_per_step
    from densekit.training import progress

    file = Path(cfg["resume"])
    artifact = load_artifact(file)
    stored = yaml.safe_load(artifact["config"])
    weights = {key: without_weights(stored.get(key)) for key in MODEL}
    own = {key: without_weights(cfg.get(key)) for key in MODEL}
    check_resumed({**stored, "checkpoint": None} | weights, {**cfg} | own, file)
    check_length(cfg["trainer"], progress(file)[1], file)
    check_classes(sources, artifact["info"].get("heads", {}), file)
    for name, state in read_checkpoint(file).get(DataModule.__qualname__, {}).items():
        if name in sources:
            check_images_per_step(name, sources[name].batch_size, state, processes)


def check_resumed(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuses a setting that a resumed run would ignore or that would make it a different run.

    Args:
        before: The configuration that the checkpoint was trained with, without pretrained weights.
        now: The configuration of the resumed run.
        checkpoint: The file, named in the message.

    Raises:
        UsageError: A setting differs; names the first one.
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    for key in {**old, **new}:
        found, wanted = old.get(key), new.get(key)
        filled = any(other.startswith(f"{key}.") for other in {**old, **new})
        if found == wanted or filled or _may_change(key):
            continue
        raise UsageError(
            f"{key}: expected {_shown(found)} as in {checkpoint}, got {_shown(wanted)}; a resumed"
            " run continues exactly, so this cannot change: checkpoint=PATH instead of resume="
            " starts a new run from the weights"
        )


def check_length(trainer: Mapping[str, Any], epoch: int, checkpoint: Path) -> None:
    """Refuses a run that would end before the epoch of its checkpoint.

    Args:
        trainer: Settings of the trainer.
        epoch: Epoch of the checkpoint, from 0.
        checkpoint: The file, named in the message.
    """
    most = trainer.get("max_epochs")
    if most is not None and 0 <= most <= epoch:
        raise UsageError(
            f"trainer.max_epochs: expected more than {epoch}, the epoch of {checkpoint}, got {most}"
        )


def check_classes(sources: Mapping[str, Any], heads: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuses data of other classes than the checkpoint has learned.

    Args:
        sources: Data sets by name.
        heads: The entry of each head in the checkpoint's `info`.
        checkpoint: The file, named in the message.
    """
    from densekit.app.config.data_info import describe_for

    for name, source in sources.items():
        for head in source.heads:
            known, found = heads.get(head, {}).get("names"), describe_for(source, head).get("names")
            if known is not None and found is not None and list(found) != list(known):
                raise UsageError(
                    f"data.{name}: expected the classes {list(known)} of {checkpoint}, got"
                    f" {list(found)}"
                )


def check_moved(overrides: Overrides, data: Any) -> None:
    """Refuses `paths.data` if no data set is in the stored folder: it would change nothing.

    Args:
        overrides: Overrides of the command line.
        data: The data sets, with `${paths.data}` at the start of paths inside it.
    """
    for word in overrides:
        if word.key == "paths.data" and "${paths.data}" not in str(data):
            raise UsageError(
                f"{word.text}: expected a data set in the stored paths.data, got none of"
                f" {', '.join(data)} there; set data.NAME.train.root= or what its paths are called"
            )


def _may_change(key: str) -> bool:
    parts = key.split(".")
    if parts[0] == "data" and len(parts) > 2:
        return parts[2] in CHANGEABLE_DATA_KEYS or is_path_key(key)
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted key and value of every leaf; an empty mapping is a leaf."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
