"""`densekit benchmark`: times a model of ours and its peer in turn, in one process.

First their outputs must agree, see `benchmark_pairs`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.errors import UsageError
from densekit.app.options.shared import DEVICE, device_name
from densekit.app.options.table import (
    Command,
    Option,
    choice,
    choices,
    parse_command,
    sides,
    text,
    whole,
)
from densekit.app.report import print_lines, print_whole, write_metrics

if TYPE_CHECKING:
    from densekit.app.studies.benchmark_pairs import Pair

PEERS = {"faster_rcnn": "torchvision", "unet": "smp", "deeplabv3plus": "smp"}
DIVISOR = 32
"""Sides of images must be multiples of it for smp."""
COMMAND = Command(
    name="benchmark",
    usage="[key=value ...]",
    about="""
Times a model of torchvision or of segmentation_models_pytorch (smp) and the same model of densekit
in turn, with the same weights and images, after checking that their losses and predictions agree.
""",
    examples=(
        "benchmark",
        "benchmark model=unet size=[256,320] batch=8",
        "benchmark step=predict depth=50 size=[800,1088] batch=1 precision=fp32",
    ),
    options=(
        Option("model", choice(*PEERS), "faster_rcnn", "faster_rcnn of torchvision, others of smp"),
        Option(
            "step",
            choice("train", "predict"),
            "train",
            "train is forward, losses and backward; predict includes post-processing",
        ),
        Option("depth", choice(18, 34, 50), 18, "depth of the ResNet"),
        Option(
            "size",
            sides(count=2, at_least=32),
            [320, 448],
            f"sides of the images; smp needs multiples of {DIVISOR}",
        ),
        Option("batch", whole(1), 4, "images per step"),
        Option("classes", whole(1), 3, "number of classes; smp needs at least 2"),
        Option("precision", choices("fp32", "bf16", "fp16"), ["fp32", "bf16"], "types to time"),
        Option("rounds", whole(1), 5, "timed rounds, after one warm-up round"),
        replace(DEVICE, default="cpu"),
        Option("output", text("FILE"), None, "JSON file to also write the results to"),
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, _ = parse_command(COMMAND, arguments)
    if PEERS[options["model"]] == "smp":
        _check_smp(options)
    options["device"] = device_name(options["device"])
    precisions = options["precision"]
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
    seconds = interleaved(rows, options["rounds"], options["device"])
    results = _results(seconds, f"{peer}/fp32")
    _print(results, options)
    if options["output"]:
        write_metrics(results, Path(options["output"]))
    return 0


def _check_smp(options: dict[str, Any]) -> None:
    if any(side % DIVISOR for side in options["size"]):
        raise UsageError(f"size: expected multiples of {DIVISOR} for smp, got {options['size']}")
    if options["classes"] < 2:
        raise UsageError(f"classes: expected at least 2 for smp, got {options['classes']}")


def interleaved(
    rows: dict[str, Callable[[], object]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Times every row once per round, after a warm-up round; returns seconds by name."""
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
        RuntimeError: They differ: timing unequal models means nothing.
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
    return torch.autocast(str(options["device"]).split(":")[0], kind, enabled=precision != "fp32")


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
    """Returns a function that runs one training step without optimiser, or one prediction."""
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


def _results(seconds: dict[str, list[float]], reference: str) -> dict[str, float]:
    """Median seconds of each row, and how many times faster than the peer's float32 it is."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    base = median.get(reference, next(iter(median.values())))
    results = {f"{name}/seconds": value for name, value in median.items()}
    return results | {f"{name}/speedup": base / value for name, value in median.items()}


def _print(results: dict[str, float], options: dict[str, Any]) -> None:
    from rich.table import Table

    height, width = options["size"]
    table = Table(
        title=f"{options['step']}: {options['model']}, ResNet-{options['depth']}, "
        f"{options['batch']} x {height}x{width}, median of {options['rounds']} rounds",
        title_justify="left",
    )
    for column in ("", "seconds", f"speed relative to {PEERS[options['model']]}'s first row"):
        table.add_column(column, justify="left" if not column else "right")
    for name in (key.removesuffix("/seconds") for key in results if key.endswith("/seconds")):
        table.add_row(
            name, f"{results[f'{name}/seconds']:.3f}", f"{results[f'{name}/speedup']:.2f}"
        )
    print_whole(table)
