"""Evaluates COCO results against COCO annotations, without model or images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densekit.app.options.shared import existing, output_folder
from densekit.app.run.folder import METRICS
from densekit.app.terminal import print_lines, print_table, write_metrics
from densekit.evaluation import Evaluation, Measured, write_evaluation
from densekit.metrics.detection.coco_files import evaluate_files, metric_of_files

EXPLAINED = ("coco", "voc")
"""Protocols of boxes whose evaluation is kept."""


def evaluate_results(options: Mapping[str, Any]) -> None:
    """Prints the metrics of results; with `output`, also writes them, and the evaluation of boxes.

    Args:
        options: Of `densekit eval` with `results`.
    """
    results = existing("results", options["results"])
    annotations = existing("annotations", options["annotations"])
    chosen = {key: options[key] for key in ("iou_type", "protocol")}
    metrics = evaluate_files(results, annotations, **chosen)
    print_table(metrics, f"{options['iou_type']} of {results.name}")
    if not options["output"]:
        return
    folder = output_folder(options["output"])
    write_metrics(metrics, folder / METRICS)
    print_lines(f"metrics: {folder / METRICS}")
    if options["iou_type"] == "bbox" and options["protocol"] in EXPLAINED:
        file = folder / "evaluation_test.npz"
        write_evaluation(file, evaluation_of_results(results, annotations, options["protocol"]))
        print_lines(f"evaluation: {file}")


def evaluation_of_results(results: Path, annotations: Path, protocol: str = "coco") -> Evaluation:
    """Measures a file of COCO boxes.

    Args:
        results: See `evaluate_files`.
        annotations: See `evaluate_files`.
        protocol: One of `EXPLAINED`.
    """
    metric, names = metric_of_files(results, annotations, protocol)
    data, head = annotations.stem, "detection"
    values = {name: float(value) for name, value in metric.compute().items()}
    keys = {name: f"{head}/{name}" for name in values}
    logged = {keys[name]: value for name, value in values.items()}
    measured = Measured(data, head, protocol, metric, keys, logged)
    return Evaluation("test", [measured], {data: names}, {data: {}})
