"""Trains every detector for the same CPU time, from scratch; writes docs/benchmarks/detection.md.

    nice python tools/benchmarks/detectors.py paths.data=FOLDER_WITH_BCCD seconds=180
    nice python tools/benchmarks/detectors.py paths.data=FOLDER_WITH_BCCD scenes/fcos bccd/atss:1
    python tools/benchmarks/detectors.py --page                 # only the page, from what is there

A head's training steps are measured first, in CPU seconds on one thread, and it is then trained for
as many as the budget holds: the load of the machine does not change a number. Results are kept in
runs/detectors/DATA-HEAD-SEED.json, the run beside it: a series that was stopped continues where it
was. `:1` behind a name is the seed.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from detector_settings import BATCH, HEADS, Setting

from densekit._files import write_text
from densekit.app.options.table import Option, number, split_options, text
from densekit.app.studies.benchmark.report import markdown_table

FOLDER = Path("runs", "detectors")
PAGE = Path("docs/benchmarks/detection.md")
WARM, MEASURED = 4, 12
"""Training steps before the measurement, and measured ones."""
PREDICTED = 40
"""Images whose prediction is measured, after as many as are warm."""
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
METRICS = {
    "AP": "AP",
    "AP50": "AP50",
    "small": "AP_small",
    "medium": "AP_medium",
    "large": "AP_large",
    "VOC AP": "VOC10_AP50",
}
"""Columns of the table to metrics of a run."""
OPTIONS = (
    Option("seconds", number(at_least=1), 180.0, "CPU seconds of each training"),
    Option("paths.data", text("FOLDER"), None, "the folder that holds bccd"),
)


def main(arguments: list[str]) -> None:
    """Trains what is missing or named, and writes the page."""
    options, rest = split_options(arguments, OPTIONS)
    names = [word for word in rest if word != "--page"]
    if "--page" not in rest:
        for name in names or _missing(options["paths.data"] is not None):
            _train(Setting.of(name), options["seconds"], options["paths.data"])
    for data in BATCH:
        _replace(data, _table(data))
    print(PAGE)


def _missing(with_files: bool) -> list[str]:
    """What is not measured yet, of the first seed."""
    settings = [Setting(data, head, 0) for data in BATCH for head in HEADS]
    return [
        one.name
        for one in settings
        if one.exists and (with_files or one.data == "scenes") and not _file(one).exists()
    ]


def _file(setting: Setting) -> Path:
    return FOLDER / f"{setting.stem}.json"


def _train(setting: Setting, seconds: float, data: str | None) -> None:
    """Measures a step, trains for the budget, and keeps what the test split says."""
    folder = [f"paths.data={data}"] if data else []
    cost = _alone(step_cost, [*setting.words(WARM + MEASURED), *folder])
    steps = round(seconds / cost["step"])
    print(f"{setting.name}: {cost['step']:.3f} CPU s a step, {steps} steps", flush=True)
    runs = FOLDER / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    words = [*setting.words(steps), *folder]
    command = [sys.executable, "-m", "densekit", "train", *words, f"trainer.max_steps={steps}"]
    command += [f"paths.runs={runs}", f"run_name={setting.stem}", "progress=plain"]
    with (runs / f"{setting.stem}.log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log, env={**os.environ, **THREADS})
    run = max((runs / setting.stem).iterdir())  # the newest
    measured = json.loads((run / "metrics.json").read_text())
    found = {name: value for name, value in measured.items() if name.startswith("test/")}
    result = {"steps": steps, **cost, "seconds": seconds, "metrics": found}
    result |= _alone(prediction_cost, words, str(run))
    write_text(_file(setting), json.dumps(result, indent=1))
    print(f"{setting.name}: " + ", ".join(f"{k} {v:.3f}" for k, v in _figures(found).items()))


def _alone(function: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What a function returns in a process of its own, on one thread."""
    os.environ.update(THREADS)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def step_cost(words: Sequence[str]) -> dict[str, float]:
    """CPU seconds of a training step, reading included; parameters of the model."""
    import torch

    from densekit import compose
    from densekit.build import instantiate
    from densekit.training import layer_calls, resolve_precision
    from densekit.training.optim import parameter_groups

    torch.set_num_threads(1)
    sources, model, job = compose(*words)
    (source,) = sources.values()
    source.num_workers = 0
    make = instantiate(job["optimizer"], "optimizer")
    optimizer = make(parameter_groups(model, 0.0, make.keywords["lr"]))
    size = source.image_size()
    precision = resolve_precision(job["precision"], "cpu", lambda: layer_calls(model, [size]))
    model.train()
    spent = []
    for _, batch in zip(range(WARM + MEASURED), source.train_loader(), strict=False):
        with torch.autocast("cpu", torch.bfloat16, enabled="bf16" in precision):
            loss = torch.stack([*model.loss(batch, model.features(batch)).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent.append(_cpu_seconds())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    steps = [after - before for before, after in pairwise(spent[WARM - 1 :])]
    return {"step": statistics.median(steps), "parameters": parameters}


def prediction_cost(words: Sequence[str], run: str) -> dict[str, float]:
    """Images of the test split per CPU second in float32, one at a time, and GFLOP of one."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from densekit import Predictor, compose
    from densekit.app.options.shared import checkpoint_file

    torch.set_num_threads(1)
    sources, _, _ = compose(*words)
    (source,) = sources.values()
    source.eval_batch_size, source.num_workers = 1, 0
    predictor = Predictor(checkpoint_file(run))
    batches = [
        batch for _, batch in zip(range(PREDICTED), source.eval_loader("test"), strict=False)
    ]

    def predict(batch: Any) -> None:
        predictor.inferer(predictor.model, predictor.model.resized(batch))

    with torch.inference_mode():
        for batch in batches:
            predict(batch)
        start = _cpu_seconds()
        for batch in batches:
            predict(batch)
        rate = len(batches) / (_cpu_seconds() - start)
        with FlopCounterMode(display=False) as counter:
            predict(batches[0])
    return {"rate": rate, "gflop": counter.get_total_flops() / 1e9}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The columns of the table; NaN where a metric has nothing to measure."""
    found = {column: metrics.get(f"test/detection/{name}") for column, name in METRICS.items()}
    return {column: math.nan if value is None else value for column, value in found.items()}


def _table(data: str) -> list[str]:
    """A row per head and seed, best AP first."""
    found = []
    for head in HEADS:
        for file in sorted(FOLDER.glob(f"{data}-{head}-*.json")):
            found.append((head, file.stem.rpartition("-")[2], json.loads(file.read_text())))
    if not found:
        return ["Not measured yet."]
    found.sort(key=lambda one: -_figures(one[2]["metrics"])["AP"])
    columns = ["head", "seed", *METRICS, "steps", "CPU s per step", "images per CPU s", "GFLOP"]
    rows = [
        [
            HEADS[head].label,
            seed,
            *(_shown(value) for value in _figures(one["metrics"]).values()),
            str(one["steps"]),
            f"{one['step']:.2f}",
            f"{one['rate']:.1f}",
            f"{one['gflop']:.1f}",
            f"{one['parameters'] / 1e6:.1f}",
        ]
        for head, seed, one in found
    ]
    return markdown_table([*columns, "million parameters"], rows)


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _replace(data: str, lines: list[str]) -> None:
    """Replaces what stands between the marks of a data set on the page."""
    begin, end = (f"<!-- detectors on {data}: {word} -->" for word in ("begin", "end"))
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    _, after = rest.split(end)
    write_text(PAGE, "\n".join([before + begin, *lines, end + after]))


if __name__ == "__main__":
    main(sys.argv[1:])
