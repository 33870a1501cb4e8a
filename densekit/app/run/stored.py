"""The configuration that a checkpoint holds, made fit for another run."""

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
from densekit.app.report import print_lines
from densekit.app.run.resuming import COMMAND_KEYS, check_moved, check_resumed, chosen
from densekit.trust import MODEL, check_stored, without_weights

MLFLOW = "lightning.pytorch.loggers.MLFlowLogger"
OWN_MLFLOW = "densekit.training.MlflowLogger"
RUN_KEYS = ("paths", "data", "trainer", "training", "inferer", "metrics")
"""What the configuration of a run has and that of a model alone may lack."""

logger = logging.getLogger(__name__)


def resumed(checkpoint: Path, overrides: Overrides) -> Composed:
    """The configuration that a checkpoint was trained with, overrides applied to it."""
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
    """The checkpoint to go on from: the one named, or the previous whole one if it is damaged."""
    from densekit.artifact import BrokenCheckpointError, load_artifact
    from densekit.training import furthest_checkpoint

    if path.is_dir() and (path / "checkpoints").is_dir():
        path = path / "checkpoints"
    if path.is_file():
        # A file that is refused for what it holds is an alarm, not a reason to try its neighbour.
        with contextlib.suppress(BrokenCheckpointError):
            load_artifact(path)
    found: Path = furthest_checkpoint(path)
    return found


def stored_run(
    stored: Mapping[str, Any], checkpoint: Path, given: Collection[str], trust: Sequence[str]
) -> dict[str, Any]:
    """A run's configuration out of a checkpoint, without what a file has no say in.

    Nothing of it widens trust, brings weights, or says where to write: loggers write to the server
    of this machine. `vars` have been resolved.

    Args:
        stored: What the checkpoint holds.
        checkpoint: The file.
        given: Keys of the command line, whose values stand for the stored ones.
        trust: See `densekit.trust.check_stored`.

    Raises:
        UsageError: A part is not what it has to be.
        ValueError: It names what a stored configuration may not build, fetch or write.
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
    """A stored configuration, open again where a new run differs from the old one.

    What pointed into the old run folder points into the new one, what lay in `paths.data` follows
    it, `precision=` reaches the trainer, and what the app has noted down about the old command is
    gone.

    Raises:
        UsageError: It describes a model alone, not a run.
    """
    missing = [key for key in RUN_KEYS if key not in plain]
    if missing:
        raise UsageError(
            f"the checkpoint's configuration is not of a run, {', '.join(missing)} missing; such "
            "a model can be used by densekit predict and in Python"
        )
    node = _relative(dict(plain), str(plain["paths"]["run"]), "${paths.run}")
    assert isinstance(node, dict)
    node["data"] = _relative(node["data"], str(plain["paths"].get("data")), "${paths.data}")
    node["logger"] = _on_this_machine(node.get("logger", {}))
    node["paths"]["run"] = None
    if node["trainer"].get("precision") == node.get("precision"):  # not if set on its own
        node["trainer"]["precision"] = "${precision}"
    return {key: value for key, value in node.items() if key not in COMMAND_KEYS}


def _on_this_machine(loggers: Mapping[str, Any]) -> dict[str, Any]:
    """Loggers that write to the server of this machine's environment, as those of `conf` do."""
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
    """The stored `paths.runs`, if the checkpoint still lies where its run has written it."""
    run, runs = (Path(str(plain["paths"].get(key))) for key in ("run", "runs"))
    named = runs / str(plain.get("run_name"))
    at_home = run in checkpoint.absolute().parents and named in (run.parent, run.parent.parent)
    return str(runs) if at_home and ".." not in run.parts else None


def _without_caches(node: Any, runs: str | None) -> Any:
    """Data nodes without the folders for prepared arrays that lie outside of the user's runs."""
    if isinstance(node, list):
        return [_without_caches(value, runs) for value in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _without_caches(value, runs) for key, value in node.items()}
    cache = kept.get("cache")
    if cache is not None and not (runs and _within(str(cache), runs)):
        logger.warning("cache=%s of the checkpoint is not used: not in its folder of runs", cache)
        kept["cache"] = None
    return kept


def _within(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/") and ".." not in Path(path).parts


def keep_axes(data: Any, info: Mapping[str, Any]) -> None:
    """Leaves volumes as stored, and says so, for a model that knows no orientation.

    Such a checkpoint was written before volumes were turned; its network knows no other axes.

    Args:
        data: Plain configuration of data sets, changed in place.
        info: Of the model.
    """
    of_volumes = info.get("spatial_dims") == 3 or info.get("slices") is not None
    if of_volumes and "orientation" not in info and _leave_as_stored(data):
        print_lines(
            "The checkpoint does not say in which orientation it was trained: axes of volumes are"
            " taken as stored (orientation=null)."
        )


def _leave_as_stored(node: Any) -> bool:
    """Sets `orientation: null` wherever volumes are read without one; whether there were some."""
    if not isinstance(node, dict):
        return False
    here = str(node.get("_target_", "")).endswith(".MedicalVolumes") and "orientation" not in node
    if here:
        node["orientation"] = None
    return any([here, *map(_leave_as_stored, node.values())])


def _relative(node: Any, folder: str, name: str) -> Any:
    """Puts a name back in front of what lies in the folder that it stood for."""
    if isinstance(node, dict):
        return {key: _relative(value, folder, name) for key, value in node.items()}
    if isinstance(node, list):
        return [_relative(value, folder, name) for value in node]
    if isinstance(node, str) and (node == folder or node.startswith(f"{folder}/")):
        return name + node.removeprefix(folder)
    return node
