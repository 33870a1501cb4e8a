"""What may be set anew beside `resume=`: whatever then takes effect and leaves the run the same."""

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
"""What a command has noted down beside the configuration."""
MAY_CHANGE = (
    *("callbacks", "inferer", "logger", "metrics", "paths", "precision", "resume", "run_name"),
    *("on_broken", "schedule", "test", "trainer", "trust", *COMMAND_KEYS),
    *("optimizer.lr", "optimizer.weight_decay", "training.compile"),
)
"""Keys, with all that is below them."""
GROUPS = ("backbone", "callbacks", "logger", "metrics", "optimizer", "schedule", "trainer")
"""Groups whose choice replaces one stored node; any other asks for a whole configuration.

Of a backbone or an optimiser only the stored one passes; another is refused by its own key.
"""
CHANGEABLE_DATA_KEYS = ("eval_batch_size", "num_workers", "test", "cache")
"""What may change of a data set, as may the paths of its files."""


def chosen(choices: Overrides, trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes of groups that are chosen anew, not yet resolved.

    Args:
        choices: Such as `logger=wandb`, of `GROUPS`.
        trainer: The stored settings, which stay where the chosen option says nothing of its own.
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


def check_continues(cfg: Mapping[str, Any], sources: Mapping[str, Any]) -> None:
    """Refuses what would make a resumed run another one, now that everything is worked out.

    Args:
        cfg: Resolved configuration of the resumed run.
        sources: Its data sets by name.
    """
    from densekit.artifact import load_artifact
    from densekit.training import progress

    file = Path(cfg["resume"])
    artifact = load_artifact(file)
    stored = yaml.safe_load(artifact["config"])
    weights = {key: without_weights(stored.get(key)) for key in MODEL}
    own = {key: without_weights(cfg.get(key)) for key in MODEL}
    check_resumed({**stored, "checkpoint": None} | weights, {**cfg} | own, file)
    check_length(cfg["trainer"], progress(file)[1], file)
    check_classes(sources, artifact["info"].get("heads", {}), file)


def check_resumed(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuses a setting that a resumed run would ignore, or that would make it another run.

    Args:
        before: The configuration that the checkpoint was trained with, without pretrained weights.
        now: The configuration of the resumed run.
        checkpoint: The file, for the message.

    Raises:
        UsageError: Naming the first such key.
    """
    old, new = dict(_leaves(before)), dict(_leaves(now))
    for key in {**old, **new}:
        found, wanted = old.get(key), new.get(key)
        filled = any(other.startswith(f"{key}.") for other in {**old, **new})
        if found == wanted or filled or _may_change(key):
            continue
        raise UsageError(
            f"{key}: expected {_said(found)} as in {checkpoint}, got {_said(wanted)}: a resumed"
            " run goes on exactly, so this stays as it was. checkpoint=PATH in place of resume="
            " starts a new run from the weights"
        )


def check_length(trainer: Mapping[str, Any], epoch: int, checkpoint: Path) -> None:
    """Refuses a run that would be shorter than what has been trained.

    Args:
        trainer: Its settings.
        epoch: The epoch the checkpoint is in, from 0.
        checkpoint: The file, for the message.
    """
    most = trainer.get("max_epochs")
    if most is not None and 0 <= most <= epoch:
        raise UsageError(
            f"trainer.max_epochs: expected more than {epoch}, in which {checkpoint} is, got {most}"
        )


def check_classes(sources: Mapping[str, Any], heads: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuses data of other classes than those that the checkpoint has learned.

    Args:
        sources: Data sets by name.
        heads: What the checkpoint's `info` says of each head.
        checkpoint: The file, for the message.
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
    """Refuses a `paths.data` that none of the data sets lies in, before it is filled in.

    Args:
        overrides: Of the command line.
        data: The data sets with `${paths.data}` where they lie in it.
    """
    for word in overrides:
        if word.key == "paths.data" and "${paths.data}" not in str(data):
            raise UsageError(
                f"{word.text}: expected the folder of a data set, but none of {', '.join(data)}"
                " lies in the old one; set data.NAME.train.root= or what its paths are called"
            )


def _may_change(key: str) -> bool:
    parts = key.split(".")
    if parts[0] == "data" and len(parts) > 2:
        return parts[2] in CHANGEABLE_DATA_KEYS or is_path_key(key)
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def _leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything that is no mapping; of an empty one itself."""
    if isinstance(node, Mapping) and node:
        for name, value in node.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


def _said(value: Any) -> str:
    return "nothing" if value is None else str(value)
