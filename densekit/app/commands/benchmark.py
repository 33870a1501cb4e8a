"""`densekit benchmark`: one of our models against its peer's, in turn, in one run.

Before anything is timed the outputs must agree, see `benchmark_pairs`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.errors import UsageError
from densekit.app.options import device_name, number, refuse_rest, split_options
from densekit.app.report import print_lines, print_whole, write_metrics

if TYPE_CHECKING:
    from densekit.app.studies.benchmark_pairs import Pair

OPTIONS: dict[str, Any] = {
    "model": "faster_rcnn",
    "step": "train",
    "depth": 18,
    "size": [320, 448],
    "batch": 4,
    "classes": 3,
    "precision": ["32", "bf16"],
    "rounds": 5,
    "device": "cpu",
    "output": None,
}
PEERS = {"faster_rcnn": "torchvision", "unet": "smp", "deeplabv3plus": "smp"}
STEPS = ("train", "predict")
DEPTHS = (18, 34, 50)
PRECISIONS = ("32", "bf16", "fp16")
DIVISOR = 32
"""smp refuses sides that do not divide by it."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, rest = split_options(arguments, OPTIONS)
    refuse_rest("benchmark", rest, OPTIONS)
    precisions = _checked(options)
    import torch

    print_lines(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, device {options['device']}"
    )
    gap = check_equal(options)
    print_lines(f"equal: losses within {gap:.1e} (relative), predictions within the tolerance")
    pair = _pair(options, options["size"], options["batch"])
    peer = PEERS[options["model"]]
    rows = {f"{peer}/{p}": _theirs(pair, options, p) for p in precisions}
    rows |= {f"densekit/{p}": _ours(pair, options, p) for p in precisions}
    seconds = interleaved(rows, int(options["rounds"]), str(options["device"]))
    figures = _figures(seconds, f"{peer}/32")
    _print(figures, options)
    if options["output"]:
        write_metrics(figures, Path(options["output"]))
    return 0


def _checked(options: dict[str, Any]) -> list[str]:
    precisions = options["precision"]
    precisions = [str(p) for p in (precisions if isinstance(precisions, list) else [precisions])]
    if options["model"] not in PEERS:
        raise UsageError(f"model={options['model']}: accepted are {', '.join(PEERS)}")
    if not isinstance(options["size"], list) or len(options["size"]) != 2:
        raise UsageError(f"size={options['size']}: accepted are height and width, size=[320,448]")
    for key in ("batch", "classes", "rounds"):
        number("benchmark", key, options[key], at_least=1)
    for side in options["size"]:
        number("benchmark", "size", side, at_least=32)
    if PEERS[options["model"]] == "smp":
        if any(side % DIVISOR for side in options["size"]):
            raise UsageError(f"size={options['size']}: smp accepts multiples of {DIVISOR}")
        number("benchmark", "classes", options["classes"], at_least=2)
    if options["depth"] not in DEPTHS:
        raise UsageError(f"depth={options['depth']}: accepted are {', '.join(map(str, DEPTHS))}")
    options["device"] = device_name("benchmark", options["device"])
    if options["step"] not in STEPS:
        raise UsageError(f"step={options['step']}: accepted are {', '.join(STEPS)}")
    wrong = [p for p in precisions if p not in PRECISIONS]
    if wrong:
        raise UsageError(f"precision={wrong[0]}: accepted are {', '.join(PRECISIONS)}")
    return precisions


def interleaved(
    rows: dict[str, Callable[[], object]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Times every row once a round, after one round of warm-up: seconds by name."""
    import torch
    from rich.progress import track

    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for turn in track(range(rounds + 1), description="rounds"):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if turn > 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _pair(options: dict[str, Any], size: Sequence[int], batch: int, *, proof: bool = False) -> Pair:
    from densekit.app.studies.benchmark_pairs import detector_pair, segmenter_pair

    make = detector_pair if options["model"] == "faster_rcnn" else segmenter_pair
    return make(options, size, batch, proof=proof)


def check_equal(options: dict[str, Any]) -> float:
    """Compares losses and predictions in float32; returns the largest relative gap of a loss.

    Raises:
        RuntimeError: They differ; no time is worth reporting then.
    """
    from densekit.app.studies.benchmark_pairs import (
        SMALL,
        check_detections,
        check_logits,
        check_losses,
    )

    pair = _pair(options, SMALL, 2, proof=True)
    gap = check_losses(pair)
    check = check_detections if options["model"] == "faster_rcnn" else check_logits
    check(pair)
    return gap


def _autocast(options: dict[str, Any], precision: str) -> Any:
    import torch

    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(str(options["device"]).split(":")[0], kind, enabled=precision != "32")


def _theirs(pair: Pair, options: dict[str, Any], precision: str) -> Callable[[], object]:
    return _runner(pair.theirs, pair.their_losses, pair.their_predictions, options, precision)


def _ours(pair: Pair, options: dict[str, Any], precision: str) -> Callable[[], object]:
    return _runner(pair.ours, pair.our_losses, pair.our_predictions, options, precision)


def _runner(
    model: Any,
    losses: Callable[[], Any],
    predict: Callable[[], Any],
    options: dict[str, Any],
    precision: str,
) -> Callable[[], object]:
    """One training step without the optimiser, or one prediction."""
    import torch

    def train() -> None:
        model.train().zero_grad()
        with _autocast(options, precision):
            total = sum(losses().values())
        total.backward()

    @torch.inference_mode()
    def infer() -> None:
        model.eval()
        with _autocast(options, precision):
            predict()

    return train if options["step"] == "train" else infer


def _figures(seconds: dict[str, list[float]], reference: str) -> dict[str, float]:
    """Median seconds of each row, and how many times faster than the peer's float32 it is."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    base = median.get(reference, next(iter(median.values())))
    figures = {f"{name}/seconds": value for name, value in median.items()}
    return figures | {f"{name}/speedup": base / value for name, value in median.items()}


def _print(figures: dict[str, float], options: dict[str, Any]) -> None:
    from rich.table import Table

    height, width = options["size"]
    table = Table(
        title=f"{options['step']}: {options['model']}, ResNet-{options['depth']}, "
        f"{options['batch']} x {height}x{width}, median of {options['rounds']} rounds",
        title_justify="left",
    )
    for column in ("", "seconds", f"times {PEERS[options['model']]}'s first row"):
        table.add_column(column, justify="left" if not column else "right")
    for name in (key.removesuffix("/seconds") for key in figures if key.endswith("/seconds")):
        table.add_row(
            name, f"{figures[f'{name}/seconds']:.3f}", f"{figures[f'{name}/speedup']:.2f}"
        )
    print_whole(table)
