"""Reopens the configuration stored in a checkpoint for another run."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from densekit.app.config.compose import Composed, apply_values
from densekit.app.config.groups import own_conf
from densekit.app.config.overrides import Overrides
from densekit.app.errors import UsageError
from densekit.app.run.resuming import COMMAND_KEYS, check_moved, check_resumed, chosen
from densekit.app.terminal import print_lines
from densekit.trust import MODEL, check_stored, without_weights

MLFLOW = "lightning.pytorch.loggers.MLFlowLogger"
OWN_MLFLOW = "densekit.training.MlflowLogger"
RUN_KEYS = ("paths", "data", "trainer", "training", "inferer", "metrics")
"""Keys that the configuration of a run has and that of a model alone may lack."""
FOLLOWERS = {
    "precision": ("trainer", "", "precision"),
    "progress": ("callbacks", "progress", "style"),
    "profile": ("callbacks", "profile", "active"),
}
"""Key to the argument that follows it: its group, its entry there and its name."""

logger = logging.getLogger(__name__)


def resumed(checkpoint: Path, overrides: Overrides) -> Composed:
    """The configuration that a checkpoint was trained with, with overrides applied."""
    from densekit.artifact import load_artifact

    artifact = load_artifact(checkpoint)
    plain = yaml.safe_load(artifact["config"])
    trust = overrides.trust
    plain = reopen(stored_run(plain, checkpoint, {"resume", *overrides.keys}, trust))
    keep_axes(plain["data"], artifact["info"])
    plain |= chosen(overrides.choices, plain["trainer"])
    cfg = OmegaConf.create(plain)
    OmegaConf.set_struct(cfg, True)
    cfg.checkpoint = None
    check_moved(overrides, plain["data"])
    apply_values(cfg, overrides.values, trust)
    changed: Any = OmegaConf.to_container(cfg)
    check_resumed({**plain, "checkpoint": None}, changed, checkpoint)
    return Composed(cfg, str(cfg.run_name))


def resumable(path: Path) -> Path:
    """The checkpoint to resume from: the one named, or the last intact one if it is damaged."""
    from densekit._safetensors import is_safetensors
    from densekit.artifact import BrokenCheckpointError, load_artifact
    from densekit.training import furthest_checkpoint

    if path.is_dir() and (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if is_safetensors(path):
        raise UsageError(
            f"resume: expected a checkpoint with the state of a training, got {path}, which holds a"
            f" model alone; checkpoint={path} starts a new run from it"
        )
    if path.is_file():
        # A file that is refused for its content is an alarm, not a reason to try another one.
        with contextlib.suppress(BrokenCheckpointError):
            load_artifact(path)
    found: Path = furthest_checkpoint(path)
    return found


def stored_run(
    stored: Mapping[str, Any], checkpoint: Path, given: Collection[str], trust: Sequence[str]
) -> dict[str, Any]:
    """A run's configuration from a checkpoint, without what a file must not decide.

    A file must not widen trust, bring weights or choose where to write: loggers write to the server
    of this machine. `vars` are already resolved.

    Args:
        stored: What the checkpoint holds.
        checkpoint: The file.
        given: Keys of the command line, whose values replace the stored ones.
        trust: See `densekit.trust.check_stored`.

    Raises:
        UsageError: A part is not a mapping.
        ValueError: It names something that a stored configuration must not build, fetch or write.
    """
    for key in (*RUN_KEYS, "callbacks", "logger"):
        if key in stored and not isinstance(stored[key], Mapping):
            found = str(stored[key])[:100]
            raise UsageError(f"checkpoint {checkpoint}: {key}: expected settings, got {found!r}")
    paths = dict(stored.get("paths", {}))
    plain = {**stored, "vars": {}, "trust": [], "kept": stored.get("kept"), "paths": paths}
    plain |= {key: without_weights(stored.get(key)) for key in MODEL}
    plain["logger"] = _without_servers(plain.get("logger") or {})
    try:
        check_stored(plain, trust, folder=str(paths.get("run") or ""), given=given)
    except ValueError as error:
        raise ValueError(f"checkpoint {checkpoint}: {error}") from error
    runs = _own_runs(plain, checkpoint)
    paths["runs"] = runs or "runs"
    plain["data"] = _without_caches(plain.get("data", {}), runs)
    return {key: value for key, value in plain.items() if key in stored or key == "vars"}


def reopen(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Makes a stored configuration follow the settings of a new run again.

    Paths in the old run folder move to the new one, those in `paths.data` follow it, `precision=`
    reaches the trainer again (`FOLLOWERS`), and the keys that the old command stored are removed.

    Raises:
        UsageError: It describes a model alone, not a run.
    """
    missing = [key for key in RUN_KEYS if key not in plain]
    if missing:
        raise UsageError(
            f"checkpoint: expected the configuration of a run, got one without"
            f" {', '.join(missing)}; such a model works in densekit predict and in Python"
        )
    node = _relative(dict(plain), str(plain["paths"]["run"]), "${paths.run}")
    assert isinstance(node, dict)
    node["data"] = _relative(node["data"], str(plain["paths"].get("data")), "${paths.data}")
    node["logger"] = _on_this_machine(node.get("logger", {}))
    node["paths"]["run"] = None
    for key in FOLLOWERS.keys() & node.keys():
        group, name, argument = FOLLOWERS[key]
        owner = (node[group].get(name) if name else node[group]) or {}
        if owner.get(argument) == node[key]:  # not if set on its own
            owner[argument] = f"${{{key}}}"
    return {key: value for key, value in node.items() if key not in COMMAND_KEYS}


def _on_this_machine(loggers: Mapping[str, Any]) -> dict[str, Any]:
    """Sets the server of loggers to that of this machine, as the files of `conf` do."""
    shipped = yaml.safe_load((own_conf() / "logger" / "mlflow.yaml").read_text(encoding="utf-8"))
    server = {"tracking_uri": shipped["mlflow"]["tracking_uri"]}
    return {
        name: {**node, **server} if _is_mlflow(node) else node for name, node in loggers.items()
    }


def _without_servers(loggers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {key: value for key, value in node.items() if key != "tracking_uri"}
        if _is_mlflow(node)
        else node
        for name, node in loggers.items()
    }


def _is_mlflow(node: Any) -> bool:
    return isinstance(node, dict) and node.get("_target_") in (MLFLOW, OWN_MLFLOW)


def _own_runs(plain: Mapping[str, Any], checkpoint: Path) -> str | None:
    """The stored `paths.runs`, if the checkpoint is still where its run wrote it."""
    run, runs = (Path(str(plain["paths"].get(key))) for key in ("run", "runs"))
    named = runs / str(plain.get("run_name"))
    at_home = run in checkpoint.absolute().parents and named in (run.parent, run.parent.parent)
    return str(runs) if at_home and ".." not in run.parts else None


def _without_caches(node: Any, runs: str | None) -> Any:
    """Removes cache folders outside the user's runs from the nodes of data sets."""
    if isinstance(node, list):
        return [_without_caches(value, runs) for value in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _without_caches(value, runs) for key, value in node.items()}
    cache = kept.get("cache")
    if cache is not None and not (runs and _within(str(cache), runs)):
        logger.warning(
            "cache=%s of the checkpoint is ignored: outside the folder of its runs", cache
        )
        kept["cache"] = None
    return kept


def _within(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/") and ".." not in Path(path).parts


def keep_axes(data: Any, info: Mapping[str, Any]) -> None:
    """Leaves volumes as stored, and prints so, for a model without an orientation.

    Such a checkpoint was written before volumes were reoriented: its network saw stored axes.

    Args:
        data: Plain configuration of data sets, changed in place.
        info: The model's `info`.
    """
    of_volumes = info.get("spatial_dims") == 3 or info.get("slices") is not None
    if of_volumes and "orientation" not in info and _leave_as_stored(data):
        print_lines(
            "The checkpoint has no orientation: axes of volumes are taken as stored"
            " (orientation=null)."
        )


def _leave_as_stored(node: Any) -> bool:
    """Sets `orientation: null` where volumes are read without one; returns whether any were."""
    if not isinstance(node, dict):
        return False
    here = str(node.get("_target_", "")).endswith(".MedicalVolumes") and "orientation" not in node
    if here:
        node["orientation"] = None
    return any([here, *map(_leave_as_stored, node.values())])


def _relative(node: Any, folder: str, name: str) -> Any:
    """Replaces a folder at the start of paths by the interpolation that stood for it."""
    if isinstance(node, dict):
        return {key: _relative(value, folder, name) for key, value in node.items()}
    if isinstance(node, list):
        return [_relative(value, folder, name) for value in node]
    if isinstance(node, str) and (node == folder or node.startswith(f"{folder}/")):
        return name + node.removeprefix(folder)
    return node
