"""`densekit eval`: evaluates a checkpoint on a data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from densekit.app.config.compose import apply_values, compose
from densekit.app.config.data_info import describe_for
from densekit.app.config.overrides import Overrides, Word
from densekit.app.config.resolve import describe_data, resolve
from densekit.app.errors import UsageError
from densekit.app.options.shared import checkpoint_file, claimed, output_folder
from densekit.app.run import launch
from densekit.app.run.architecture import is_of_run
from densekit.app.run.attempts import agree_on_folder
from densekit.app.run.expectations import check_asserted, expectations, report_expected
from densekit.app.run.fit import EAGER, HARDWARE, LIMITS
from densekit.app.run.folder import METRICS, PENDING, set_run_dir
from densekit.app.run.job import Job
from densekit.app.run.record import record_start
from densekit.app.run.resuming import check_moved
from densekit.app.run.stored import keep_axes, reopen, stored_run
from densekit.app.terminal import print_lines

CHOICES = ("data", "metrics")
"""Groups of the configuration that an evaluation may choose anew."""
USED = (
    *("data", "metrics", "inferer", "on_broken", "trust", "paths.data"),
    *(f"trainer.{name}" for name in (*HARDWARE, *LIMITS)),
    *("training.compile", "training.channels_last"),
)
"""Keys of the configuration that an evaluation uses, with all keys below them."""
SPLITS = ("test", "val")
"""Splits, in the order in which the default is chosen."""
TRAINER_PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""Precisions of the eager engine and their names in the trainer."""
OWN_TRAINER = {
    **{"devices": 1, "num_nodes": 1, "strategy": "auto", "accelerator": "auto"},
    **{"limit_val_batches": 1.0, "limit_test_batches": 1.0},
}
"""Reset values of trainer settings that concern training alone or the machine it ran on."""


def evaluate(options: Mapping[str, Any], overrides: Overrides) -> Path:
    """Evaluates a checkpoint and returns the folder of `metrics.json`.

    Args:
        options: Values of the options of `densekit eval` with a checkpoint.
        overrides: `data=NAME`, `metrics=NAME`, and values of keys that an evaluation uses.

    Raises:
        UsageError: The checkpoint, the data or a key is wrong; nothing has been done then.
        UnmetError: `assert_expected` is true and a metric is not as expected.
    """
    checkpoint = checkpoint_file(options["checkpoint"]).absolute()
    engine, precision = options["engine"], options["precision"]
    from densekit.artifact import load_artifact
    from densekit.inference.engine import check_engine

    check_engine(engine, precision, "cpu")
    artifact = load_artifact(checkpoint)
    cfg = _configuration(artifact, checkpoint, overrides, _of_trainer(engine, precision))
    launch.check(dict(cfg.trainer))
    calibrated = ("train",) if precision == "int8" else ()
    split = _choose_split(cfg, options["split"], calibrated)
    expected = expectations(_plain(cfg, "expected"), (split,))
    if options["assert_expected"]:
        check_asserted(expected, f"none for {split} and these data and metrics")
    cfg.expected = {name: one._asdict() for name, one in expected.items()}
    sources = _described(cfg, artifact["info"])
    kept = options["artifact"] and str(Path(options["artifact"]).expanduser().absolute())
    job = Job(resolve(cfg, sources), "eval", sources)
    run = _folder(options["output"])
    placed, built = job.placed(run)
    placed |= {"command": "eval", "split": split, "checkpoint": str(checkpoint), "artifact": kept}
    placed |= {"engine": engine, "engine_precision": precision, "progress": options["progress"]}
    placed |= {"threshold": options["threshold"]}
    with claimed(run) if launch.is_main() else nullcontext():
        if launch.is_main():
            record_start(run)
        launch.start(placed, built)
    if launch.is_main():
        print_lines(f"metrics: {run / METRICS}")
        if kept is not None:
            print_lines(f"artifact: {kept}, with thresholds measured on {split}")
        report_expected(expected, run / METRICS, asserted=options["assert_expected"])
    return run


def evaluation_data(
    artifact: Mapping[str, Any], checkpoint: Path, overrides: Overrides, split: str | None
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Builds the data that `densekit eval` would evaluate a checkpoint on.

    Args:
        artifact: What `load_artifact` returns.
        checkpoint: Its file.
        overrides: See `evaluate`.
        split: "train", "val" or "test"; None for the default.

    Returns:
        The resolved configuration, the data sets by name, and the split.

    Raises:
        UsageError: The data or a key is wrong.
    """
    cfg = _configuration(artifact, checkpoint, overrides, _of_trainer(EAGER, "fp32"))
    split = _choose_split(cfg, split)
    sources = _described(cfg, artifact["info"])
    return resolve(cfg, sources), sources, split


def _described(cfg: DictConfig, info: Mapping[str, Any]) -> dict[str, Any]:
    """Builds the data sets and checks that they fit the model."""
    sources = describe_data(cfg)
    _check_names(sources, info.get("heads", {}))
    _check_orientation(sources, info)
    return sources


def _configuration(
    artifact: Mapping[str, Any], checkpoint: Path, overrides: Overrides, settings: Mapping[str, str]
) -> DictConfig:
    """The checkpoint's configuration with data, metrics and single values replaced."""
    chosen = overrides.where(lambda word: word.key in CHOICES)
    groups, trust = chosen.keys, overrides.trust
    of_data = overrides.where(lambda word: "data" in groups and _is_below_data(word))
    rest = overrides.where(lambda word: word not in (*chosen, *of_data))
    _refuse_choices(rest)
    stored, info = yaml.safe_load(artifact["config"]), artifact["info"]
    if is_of_run(stored):
        unused = ("callbacks", "logger", *(key for key in groups if key in stored))
        stored |= {key: {} for key in unused}
        plain = reopen(stored_run(stored, checkpoint, overrides.keys, trust))
    else:
        plain = _run_around(artifact, groups)
    plain["trainer"] |= {**OWN_TRAINER, **settings}
    plain["precision"] = settings["precision"]
    if groups or "expected" not in plain:  # other data or metrics have other results
        plain["expected"] = {}
    if groups:
        composed = compose(chosen + of_data).cfg
        set_run_dir(composed, PENDING)
        # `${heads_need:...}` of the data asks the heads of the checkpoint.
        OmegaConf.update(composed, "heads", plain["heads"], merge=False)
        composed.trust = list(trust)
        plain |= {key: OmegaConf.to_container(composed[key], resolve=True) for key in groups}
    keep_axes(plain["data"], info)
    cfg = OmegaConf.create(plain)
    OmegaConf.set_struct(cfg, True)
    apply_values(cfg, rest, trust)
    check_moved(rest, plain["data"])
    _refuse_unused(rest)
    cfg.paths.run = PENDING
    return cfg


def _of_trainer(engine: str, precision: str) -> dict[str, str]:
    """Settings of the trainer for an engine; all but the eager one run on the CPU."""
    if engine == EAGER:
        return {"precision": TRAINER_PRECISIONS[precision]}
    return {"precision": TRAINER_PRECISIONS["fp32"], "accelerator": "cpu"}


def _run_around(artifact: Mapping[str, Any], groups: Collection[str]) -> dict[str, Any]:
    """The configuration of a run for a model alone, such as a converted one, without data.

    Raises:
        UsageError: No data set is chosen.
    """
    from densekit.artifact import model_config

    if "data" not in groups:
        raise UsageError(
            "data: expected a data set, as this checkpoint was not trained on one here, got none;"
            " data=NAME"
        )
    model = model_config(artifact["config"])
    plain: Any = OmegaConf.to_container(compose(Overrides(())).cfg)
    empty: dict[str, Any] = {key: {} for key in ("data", "callbacks", "logger", "metrics")}
    return {**plain, **model, **empty, "resize": artifact["info"].get("resize")}


def _plain(cfg: DictConfig, key: str) -> Any:
    return OmegaConf.to_container(cfg[key])


def _is_below_data(word: Word) -> bool:
    """Whether a word sets a value of a data set, or a path that data sets lie in."""
    return word.key.startswith(("data.", "paths."))


def _refuse_choices(overrides: Overrides) -> None:
    """Refuses choices of groups that the checkpoint determines."""
    for word in overrides.choices:
        raise UsageError(
            f"densekit eval: expected data= or metrics=, got {word.text}, which the checkpoint sets"
        )


def _refuse_unused(overrides: Overrides) -> None:
    """Refuses keys that only training uses or that the checkpoint determines."""
    for word in overrides:
        if not any(word.key == name or word.key.startswith(f"{name}.") for name in USED):
            raise UsageError(
                f"densekit eval: expected a key of {', '.join(USED)}, got {word.text}, which an"
                " evaluation does not use"
            )


def _choose_split(cfg: DictConfig, wanted: str | None, more: Collection[str] = ()) -> str:
    """Keeps one split of the data sets, so that nothing else is read; returns its name.

    Args:
        cfg: Changed in place.
        wanted: The split; None for the default.
        more: Further splits that are kept where they exist.
    """
    known = dict.fromkeys((*SPLITS, wanted or SPLITS[0]))
    present = [split for split in known if any(node.get(split) for node in cfg.data.values())]
    split = wanted or (present[0] if present else "test")
    if split not in present:
        found = ", ".join(present) or "none"
        raise UsageError(f"split: expected a split of {list(cfg.data)} ({found}), got {split}")
    nodes = {name: node for name, node in cfg.data.items() if node.get(split)}
    with open_dict(cfg):
        cfg.data = {
            name: {**node, **{one: None for one in ("train", *SPLITS) if one not in (split, *more)}}
            for name, node in nodes.items()
        }
    return split


def _check_names(sources: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
    """Refuses data whose classes are not the model's: the labels would not match."""
    for name, source in sources.items():
        for head in source.heads:
            known = heads.get(head, {})
            if known and "names" not in known:  # identities have none
                continue
            own, found = known.get("names"), describe_for(source, head).get("names")
            if own != (found and list(found)):
                raise UsageError(
                    f"data.{name}: expected the classes {own} of heads.{head} in the checkpoint,"
                    f" got {found}"
                )


def _check_orientation(sources: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Refuses volumes in another orientation than the model was trained with."""
    if "orientation" not in info:
        return
    for name, source in sources.items():
        found = source.describe().get("orientation")
        if found != info["orientation"]:
            raise UsageError(
                f"data.{name}: expected orientation {info['orientation'] or 'null'}, which the"
                f" checkpoint was trained with, got {found or 'null'}"
            )


def _folder(output: str | None) -> Path:
    if output is None:
        return agree_on_folder(Path("runs", "eval"))
    return output_folder(output)
