"""The work of every process of a run: build from the resolved configuration, train, evaluate."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._malloc import kept_memory
from densekit.app.config.data_checks import check_heads
from densekit.app.config.monitor import check_direction, objective_name, settled
from densekit.app.config.resolve import build_sources
from densekit.app.config.trainer import strategy_of, with_switches
from densekit.app.errors import Stopped
from densekit.app.run.calibration import of_sources
from densekit.app.run.earlier_logs import continue_logs
from densekit.app.run.expectations import check_names, expectations
from densekit.app.run.folder import METRICS, dump
from densekit.app.run.record import record_model
from densekit.app.run.start import initial_model
from densekit.build import instantiate, metric_recipes

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from densekit.data import DataModule
    from densekit.inference.thresholds import Choice
    from densekit.model import DenseModel
    from densekit.training import LitModel, Stopping

logger = logging.getLogger(__name__)

HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision")
EAGER = "eager"
"""The engine that an evaluation needs not build: the trainer runs the network itself."""
LIMITS = ("limit_val_batches", "limit_test_batches")


def run_job(cfg: Mapping[str, Any], sources: Mapping[str, Any] | None = None) -> None:
    """Trains or evaluates, as the configuration's `command` says.

    Args:
        cfg: Resolved configuration, see `densekit.app.config.resolve.resolve`.
        sources: Its data sets; built here by default.

    Raises:
        Stopped: A signal ended it early; what could be saved is saved.
    """
    from densekit.training import Stopping

    stopping = Stopping()
    try:
        with stopping.listening():
            data = _data(cfg, sources)
            (evaluate if cfg["command"] == "eval" else fit)(cfg, data, stopping)
    except (SystemExit, KeyboardInterrupt):
        if stopping.signal is None:
            raise
        raise Stopped(stopping.signal) from None


def fit(cfg: Mapping[str, Any], data: DataModule, stopping: Stopping) -> None:
    """Trains, then evaluates the best checkpoint; writes metrics to the run folder.

    Args:
        cfg: Resolved configuration.
        data: Its data sets.
        stopping: Ends the run when a signal arrives.
    """
    import torch
    from lightning.pytorch import seed_everything

    from densekit.training import end_run, guarded

    seed_everything(int(cfg["seed"]), workers=True, verbose=False)
    torch.set_float32_matmul_precision("high")
    _log_data(data)
    model = initial_model(cfg, data.sources)
    optimizer = instantiate(cfg["optimizer"], "optimizer")
    schedule = instantiate(cfg["schedule"], "schedule")
    lit = _module(cfg, model, optimizer, schedule)
    cfg = _with_metric_names(cfg, lit, data)
    lit.config = dump(cfg)
    loggers = [guarded(one) for one in _each(cfg, "logger")]
    settings, callbacks = with_switches(cfg["trainer"], _each(cfg, "callbacks"))
    trainer = _trainer(
        settings,
        lit,
        data,
        callbacks=[stopping, *_loggable(callbacks, loggers)],
        logger=loggers,
        default_root_dir=cfg["paths"]["run"],
    )
    if cfg["resume"] and trainer.is_global_zero and (content := _content(cfg["resume"])):
        run, rows = Path(cfg["paths"]["run"]), int(content.get("logged", {}).get("rows", 0))
        continue_logs(trainer.loggers, run, Path(cfg["resume"]), content["global_step"], rows)
    record_model(Path(cfg["paths"]["run"]), trainer, data, model)
    with kept_memory(trainer.strategy.root_device.type):
        trainer.fit(lit, datamodule=data, ckpt_path=cfg["resume"], weights_only=True)
        if not trainer.interrupted:
            _evaluate_best(trainer, lit, data, test=bool(cfg["test"]))
            end_run(trainer, lit)


def evaluate(cfg: Mapping[str, Any], data: DataModule, stopping: Stopping) -> None:
    """Evaluates a checkpoint on the split `cfg["split"]`; writes metrics to `paths.run`."""
    from densekit.artifact import build_from_artifact, load_artifact, write_artifact
    from densekit.training import (
        CasesFile,
        EvaluationFile,
        Intervals,
        MetricsFile,
        MetricsTable,
        Progress,
        end_run,
    )

    artifact = load_artifact(cfg["checkpoint"])
    model = build_from_artifact(artifact, cfg["checkpoint"], cfg["trust"])
    if cfg.get("threshold") is not None:
        decide(model, cfg["threshold"])
    run = Path(cfg["paths"]["run"])
    kept = {name: cfg["trainer"][name] for name in (*HARDWARE, *LIMITS) if name in cfg["trainer"]}
    lit = _module(cfg, model)
    if cfg.get("engine", EAGER) != EAGER:
        lit.inferer = _with_engine(cfg, lit.inferer, data)
    check_names(
        expectations(cfg.get("expected")), {cfg["split"]: lit.logged(cfg["split"], data.sources)}
    )
    trainer = _trainer(
        {**kept, "_target_": "lightning.pytorch.Trainer", "use_distributed_sampler": False},
        lit,
        data,
        callbacks=[
            stopping,
            Progress(cfg["progress"]),
            Intervals(),
            MetricsTable(),
            MetricsFile(run / METRICS, artifact["reached"]),
            CasesFile(run),
            EvaluationFile(run),
        ],
        logger=False,
        enable_checkpointing=False,
        default_root_dir=str(run),
    )
    record_model(run, trainer, data, model)
    measure = trainer.validate if cfg["split"] == "val" else trainer.test
    with kept_memory(trainer.strategy.root_device.type):
        measure(lit, datamodule=data, verbose=False)
        end_run(trainer, lit)
    for metrics in lit.metric_sets(cfg["split"]).values():
        metrics.note_facts(model.info)
    if cfg.get("artifact") and trainer.is_global_zero:
        # The weights as they were read: a sharded model holds only a part of them.
        write_artifact(cfg["artifact"], artifact["state_dict"], artifact["config"], model.info)


def _data(cfg: Mapping[str, Any], sources: Mapping[str, Any] | None) -> DataModule:
    from densekit.data import DataModule

    if sources is None:
        sources = build_sources(cfg["data"], int(cfg["seed"]))
        check_heads(sources, cfg["heads"])
    chosen = {key: cfg[key] for key in ("on_broken",) if key in cfg}  # older runs have none
    return DataModule(sources, **chosen)


def _log_data(data: DataModule) -> None:
    """Logs what each split holds."""
    from densekit.data.summary import summary

    for name, source in data.sources.items():
        for split, dataset in source.splits.items():
            logger.info("data.%s.%s: %s", name, split, summary(dataset))


def build_inferer(cfg: Mapping[str, Any], model: DenseModel) -> Any:
    """The configured inferer, wrapped to predict whole volumes if the network works on slices."""
    from densekit.inference.inferer import Inferer
    from densekit.inference.slices import sliced

    inferer = instantiate(cfg["inferer"], "inferer")
    if isinstance(inferer, Inferer):
        inferer.check(model)
    return sliced(inferer, model.info) if model.info.get("slices") else inferer


def decide(model: DenseModel, choice: Choice) -> None:
    """Lets a model's masks and labels be decided by other thresholds, which are logged."""
    from densekit.inference.thresholds import chosen_thresholds

    found = chosen_thresholds(model, choice)
    model.decided = {name: one.values for name, one in found.items()}
    for name, one in found.items():
        logger.info("threshold of %s: %s", name, one)


def _with_engine(cfg: Mapping[str, Any], inferer: Any, data: DataModule) -> Any:
    """The inferer, predicting by the engine that an evaluation has chosen."""
    from densekit.inference.engines.evaluation import EngineInferer

    name, precision = cfg["engine"], cfg["engine_precision"]
    logger.info("engine: %s, precision: %s; the loss is not computed", name, precision)
    calibration = of_sources(data.sources)
    return EngineInferer(inferer, name, precision, Path(cfg["checkpoint"]), calibration)


def _module(
    cfg: Mapping[str, Any], model: DenseModel, optimizer: Any = None, schedule: Any = None
) -> LitModel:
    make = instantiate(cfg["training"], "training")
    lit: LitModel = make(
        model,
        optimizer=optimizer,
        schedule=schedule,
        inferer=build_inferer(cfg, model),
        metrics=metric_recipes(cfg),
        config=dump(cfg),
    )
    return lit


def _with_metric_names(cfg: Mapping[str, Any], lit: LitModel, data: DataModule) -> dict[str, Any]:
    """Names the metrics that callbacks and sweeps monitor; wrong arguments and names raise here."""
    validated = cfg["trainer"].get("limit_val_batches") != 0
    logged = {
        stage: lit.logged(stage, data.sources if is_run else {})
        for stage, is_run in {"val": validated, "test": cfg["test"]}.items()
    }
    check_names(expectations(cfg.get("expected")), logged)
    found = {**cfg, "callbacks": settled(cfg["callbacks"], logged["val"], trust=cfg["trust"])}
    if cfg.get("objective") is not None:
        found["objective"] = objective_name(cfg["objective"], logged)
        check_direction(found["objective"], cfg.get("direction"), logged)
    return found


def _loggable(callbacks: list[Any], loggers: list[Any]) -> list[Any]:
    """The callbacks; without a logger, without those that only log."""
    from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor

    alone = LearningRateMonitor | DeviceStatsMonitor
    return [one for one in callbacks if loggers or not isinstance(one, alone)]


def _each(cfg: Mapping[str, Any], group: str) -> list[Any]:
    """Builds the objects of a group that is a mapping, except entries set to null."""
    nodes = {name: node for name, node in cfg[group].items() if node is not None}
    return [instantiate(node, f"{group}.{name}") for name, node in nodes.items()]


def _trainer(node: Mapping[str, Any], lit: LitModel, data: DataModule, **parts: Any) -> Trainer:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    from densekit.training import layer_calls, resolve_precision

    precision = resolve_precision(
        str(node.get("precision", "32-true")),
        str(node.get("accelerator", "auto")),
        lambda: layer_calls(lit.model, _sizes(lit, data)),
        backward=lit.optimizer is not None,
    )
    make = instantiate({**node, "precision": precision, "_partial_": True}, "trainer")
    try:
        trainer: Trainer = make(**strategy_of(node), **parts)
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"trainer: {error}") from error
    logger.info("precision: %s", trainer.precision)
    if trainer.world_size > 1:
        logger.info("processes: %d", trainer.world_size)
    return trainer


def _sizes(lit: LitModel, data: DataModule) -> Iterator[Sequence[int]]:
    """Yields the network's input size for the first image of each data set."""
    from densekit.inference.inferer import Inferer
    from densekit.ops.resize import resized_size

    model = lit.model
    window = lit.inferer.window if isinstance(lit.inferer, Inferer) else None
    rule = model.info.get("resize")
    for source in data.sources.values():
        sides = source.image_size()[-model.spatial_dims :]  # one slice of a volume
        if source.train is None and window:
            sides = tuple(map(min, sides, window))
        elif source.train is None and rule:
            sides = resized_size(sides[0], sides[1], rule)
        yield sides


def _evaluate_best(trainer: Trainer, lit: LitModel, data: DataModule, *, test: bool) -> None:
    """Evaluates the best checkpoint, which is often not the last one."""
    keeper = trainer.checkpoint_callback
    best = getattr(keeper, "best_model_path", "") or None
    if best and trainer.is_global_zero:
        logger.info("evaluated: %s", best)
    chosen = best and getattr(keeper, "monitor", None)
    # Equal scores do not mean equal weights: the other metrics may differ.
    if best and chosen and _has(data, "val") and lit.validated_step != _step_of(best):
        trainer.validate(lit, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)
    if test and _has(data, "test"):
        trainer.test(lit, datamodule=data, ckpt_path=best, verbose=False, weights_only=True)


def _step_of(checkpoint: str | Path) -> int | None:
    """The optimiser step at which a checkpoint was written, None for a remote file."""
    content = _content(checkpoint)
    return int(content["global_step"]) if content else None


def _content(checkpoint: str | Path) -> dict[str, Any] | None:
    """What a checkpoint holds, None for a remote file."""
    import torch

    if "://" in str(checkpoint):
        return None
    content: dict[str, Any] = torch.load(
        checkpoint, map_location="cpu", weights_only=True, mmap=True
    )
    return content


def _has(data: DataModule, split: str) -> bool:
    return any(getattr(source, split) is not None for source in data.sources.values())
