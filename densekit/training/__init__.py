"""Training: the LightningModule, optimiser groups, schedules, callbacks and checkpoints."""

from __future__ import annotations

from densekit._lazy import lazy

__getattr__, __dir__, __all__ = lazy(
    __name__,
    {
        "AtomicCheckpointIO": "checkpoint_io",
        "CasesFile": "cases_file",
        "Checkpoint": "checkpoint",
        "Confusion": "confusion",
        "Constant": "schedules",
        "Cosine": "schedules",
        "Curves": "curves",
        "EarlyStopping": "early_stopping",
        "Ema": "ema",
        "EvaluationFile": "evaluation_file",
        "FixedBalance": "balance",
        "Fsdp": "fsdp",
        "Intervals": "intervals",
        "LitModel": "module",
        "LrFinder": "lr_finder",
        "MetricsFile": "metrics_file",
        "MetricsTable": "metrics_table",
        "MlflowLogger": "loggers",
        "NonFinite": "non_finite",
        "NonFiniteLossError": "non_finite",
        "OneCycle": "schedules",
        "OutOfMemory": "out_of_memory",
        "Polynomial": "schedules",
        "Progress": "step_lines",
        "RunPictures": "run_pictures",
        "SignalFile": "signal_propagation",
        "MultiStep": "schedules",
        "Stopping": "stopping",
        "Transfer": "transfer",
        "UncertaintyBalance": "balance",
        "layer_calls": "devices",
        "progress": "checkpoint_files",
        "guarded": "guarded_logger",
        "measure_signal": "signal_propagation",
        "best_checkpoint": "checkpoint_files",
        "furthest_checkpoint": "checkpoint_files",
        "resolve_precision": "devices",
    },
)
