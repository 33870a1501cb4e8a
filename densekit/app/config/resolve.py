"""From a composed configuration to the resolved one that a run keeps and its workers read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from densekit.app.config.data_info import check_heads, common_value, register_data_info
from densekit.app.config.groups import own_conf
from densekit.app.config.targets import arguments
from densekit.app.errors import UsageError
from densekit.app.report import print_lines
from densekit.build import check_targets, instantiate, walk
from densekit.trust import MODEL, check_stored, without_weights

CONFIG = "config.yaml"
METRICS = "metrics.json"
MLFLOW = "lightning.pytorch.loggers.MLFlowLogger"
OWN_MLFLOW = "densekit.training.MlflowLogger"
RUN_KEYS = ("paths", "data", "trainer", "training", "inferer", "metrics")
"""What the configuration of a run has and that of a model alone may lack."""
COMMAND_KEYS = ("command", "split", "artifact", "objective", "direction")
"""What a command has noted down beside the configuration."""

logger = logging.getLogger(__name__)


def describe_data(cfg: DictConfig) -> dict[str, Any]:
    """Builds the data sets, so that `${data_info:...}` resolves and the channels are known.

    A data set that does not say which heads it is for is for all of them.

    Returns:
        The data sets by name.

    Raises:
        UsageError: A data set is for a head that is not there, or a value of `data` is missing.
    """
    with open_dict(cfg):
        for name in cfg.data:
            cfg.data[name].setdefault("heads", list(cfg.heads))
    data = _plain(cfg, "data")
    _check_roots(data)
    for name, node in data.items():
        check_targets({"data": {name: node}}, list(cfg.trust))
    sources = {name: instantiate(node, f"data.{name}") for name, node in data.items()}
    check_heads(sources, cfg.heads)
    register_data_info(sources)
    _tell_backbone(cfg, "in_channels", common_value(sources, list(sources), "channels"))
    if any("spatial_dims" in source.describe() for source in sources.values()):
        _tell_backbone(cfg, "spatial_dims", common_value(sources, list(sources), "spatial_dims"))
    return sources


def _check_roots(data: Mapping[str, Any]) -> None:
    """Refuses a folder that is not there, before the classes that look into it are imported."""
    for key, node in walk(data, "data"):
        ours = isinstance(node, Mapping) and str(node.get("_target_")).startswith("densekit.")
        root = node.get("root") if ours else None
        if isinstance(root, str) and not Path(root).exists():
            raise UsageError(f"{key}.root: expected a folder that is there, got {root}")


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """Resolves a configuration whose data `describe_data` has seen.

    Returns:
        Plain values without interpolations: all that a worker or a later `eval` needs.

    Raises:
        UsageError: A value is missing or an interpolation leads nowhere.
    """
    plain = _plain(cfg)
    check_targets(plain, plain["trust"])
    return plain


def set_run_dir(cfg: DictConfig, run: Path) -> None:
    """Sets the run folder and makes every path absolute, so that the run can be read anywhere."""
    with open_dict(cfg):
        cfg.paths.run = str(run)
        for name in ("data", "runs"):
            cfg.paths[name] = str(Path(str(cfg.paths[name])).expanduser().absolute())


def run_name(cfg: DictConfig, experiment: str) -> str:
    """The folder of an experiment's runs; fills in `run_name` where it is not given."""
    with open_dict(cfg):
        cfg.run_name = str(cfg.run_name or experiment or "train")
    return str(cfg.run_name)


def new_folder(parent: Path) -> Path:
    """Creates a folder named after the time; a number follows if that second is taken."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in range(1, 1000):
        folder = parent / (stamp if number == 1 else f"{stamp}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(
                f"paths.runs: expected a folder that can be written, got {parent}: {error.strerror}"
            ) from error
        return folder.absolute()
    raise UsageError(f"{parent}: more than a thousand runs in one second")


def dump(cfg: Mapping[str, Any]) -> str:
    """The configuration as YAML text, in the order it was composed in."""
    return yaml.safe_dump(dict(cfg), sort_keys=False, allow_unicode=True, width=100)


def write_config(cfg: Mapping[str, Any], folder: Path) -> Path:
    """Writes the resolved configuration into a run folder and returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / CONFIG
    file.write_text(dump(cfg), encoding="utf-8")
    return file


def seal(file: Path) -> str:
    """SHA-256 of a configuration, by which a worker knows the one that its parent has checked."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def stored_run(
    stored: Mapping[str, Any], checkpoint: Path, words: Sequence[str], trust: Sequence[str]
) -> dict[str, Any]:
    """A run's configuration out of a checkpoint, without what a file has no say in.

    Nothing of it widens trust, brings weights, or says where to write: loggers write to the server
    of this machine. `vars` have been resolved.

    Args:
        stored: What the checkpoint holds.
        checkpoint: The file.
        words: Of the command line, whose values stand for the stored ones.
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
    given = [word.partition("=")[0].lstrip("+~") for word in words]
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


def _tell_backbone(cfg: DictConfig, argument: str, value: int) -> None:
    """Tells the backbone what the images are like, if it can be told and is not."""
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
