"""`densekit benchmark`: our detector against torchvision's, in turn, in one run.

Both get the same weights, pictures and settings. Before anything is timed the outputs must agree:
the losses where both samplers take every row, so that no random draw stands between them, and the
detections.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from densekit.app.errors import UsageError
from densekit.app.overrides import device_name, number, refuse_rest, split_options
from densekit.app.report import print_lines, write_metrics

OPTIONS: dict[str, Any] = {
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
STEPS = ("train", "predict")
DEPTHS = (18, 34, 50)
PRECISIONS = ("32", "bf16", "fp16")
ALL_ROWS = 1 << 30
"""A sampler that may take so many rows takes all of them."""
LOSS_TOLERANCE = 1e-4
BOX_TOLERANCE, SCORE_TOLERANCE = 1e-3, 1e-4


class Pair(NamedTuple):
    """torchvision's detector, ours with its weights, and what both are fed."""

    theirs: Any
    ours: Any
    images: list[Any]
    targets: list[dict[str, Any]]
    batch: Any


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
    print_lines(f"equal: losses within {gap:.1e} (relative), detections within the tolerance")
    pair = _pair(options, options["size"], options["batch"])
    rows = {f"torchvision/{p}": _theirs(pair, options, p) for p in precisions}
    rows |= {f"densekit/{p}": _ours(pair, options, p) for p in precisions}
    seconds = interleaved(rows, int(options["rounds"]), str(options["device"]))
    figures = _figures(seconds)
    _print(figures, options)
    if options["output"]:
        write_metrics(figures, Path(options["output"]))
    return 0


def _checked(options: dict[str, Any]) -> list[str]:
    precisions = options["precision"]
    precisions = [str(p) for p in (precisions if isinstance(precisions, list) else [precisions])]
    if not isinstance(options["size"], list) or len(options["size"]) != 2:
        raise UsageError(f"size={options['size']}: accepted are height and width, size=[320,448]")
    for key in ("batch", "classes", "rounds"):
        number("benchmark", key, options[key], at_least=1)
    for side in options["size"]:
        number("benchmark", "size", side, at_least=32)
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


def _pair(options: dict[str, Any], size: Sequence[int], batch: int, **settings: Any) -> Pair:
    """Seeded random weights with plain batch norm, all of it trained, and rendered scenes."""
    import torch
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    from densekit.data import Scenes
    from densekit.data.collate import collate
    from densekit.interop import from_torchvision

    height, width = size
    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name=f"resnet{options['depth']}",
        weights=None,
        norm_layer=torch.nn.BatchNorm2d,
        trainable_layers=5,
    )
    shorter, longer = min(size), max(size)
    theirs = FasterRCNN(
        body, int(options["classes"]) + 1, min_size=shorter, max_size=longer, **settings
    )
    scenes = Scenes("train", batch, size=(height, width))
    samples: list[Any] = [{**scenes[i], "index": i} for i in range(batch)]
    for sample in samples:
        sample["labels"] = sample["labels"] % int(options["classes"])
    made = collate(samples, training=True)
    device = torch.device(options["device"])
    moved: Any = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in made.items()}
    images = [image.float() / 255 for image in moved["image"]]
    targets = [
        {"boxes": boxes[valid], "labels": labels[valid] + 1}
        for boxes, labels, valid in zip(
            moved["boxes"], moved["labels"], moved["boxes_valid"], strict=True
        )
    ]
    theirs = theirs.to(device)
    ours = from_torchvision(theirs).to(memory_format=torch.channels_last)
    return Pair(theirs, ours, images, targets, moved)


def check_equal(options: dict[str, Any]) -> float:
    """Compares losses and detections in float32; returns the largest relative gap of a loss.

    Raises:
        RuntimeError: They differ; no time is worth reporting then.
    """
    import torch

    pair = _pair(
        options,
        [128, 160],
        2,
        rpn_batch_size_per_image=ALL_ROWS,
        rpn_positive_fraction=1.0,
        box_batch_size_per_image=ALL_ROWS,
        box_positive_fraction=1.0,
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=300,
    )
    _bound_samplers(pair)
    with torch.no_grad():
        theirs = list(pair.theirs.train()(pair.images, pair.targets).values())
        ours = pair.ours.train().loss(pair.batch)
        names = ("cls", "box", "rpn_cls", "rpn_box")
        mine = [float(ours[f"detection/{name}"]) for name in names]
        gap = max(abs(a - float(b)) / abs(float(b)) for a, b in zip(mine, theirs, strict=True))
        if gap > LOSS_TOLERANCE:
            raise RuntimeError(f"losses differ: torchvision {theirs}, densekit {mine}")
        expected = pair.theirs.eval()(pair.images)
        found = pair.ours.eval().predict(pair.batch)["detection"]
    for i, rows in enumerate(expected):
        boxes = found["boxes"][i][found["valid"][i]]
        scores = found["scores"][i][found["valid"][i]]
        close = (rows["boxes"][:, None] - boxes).abs().amax(2) <= BOX_TOLERANCE
        close &= (rows["scores"][:, None] - scores).abs() <= SCORE_TOLERANCE
        if close.any(1).float().mean() < 0.99:  # rounding may decide a suppression
            raise RuntimeError(f"detections differ in picture {i}")
    return gap


def _bound_samplers(pair: Pair) -> None:
    """Gives our samplers as many slots as there can be rows: their shapes are static."""
    from dataclasses import replace

    head = pair.ours.heads["detection"]
    anchors = 3 * sum(-(-128 // s) * -(-160 // s) for s in (4, 8, 16, 32, 64))
    head.rpn.sampling = replace(head.rpn.sampling, count=anchors)
    rows = head.rpn.proposals.train_post_nms + pair.batch["boxes"].shape[1]
    head.box_head.sampling = replace(head.box_head.sampling, count=rows)


def _autocast(options: dict[str, Any], precision: str) -> Any:
    import torch

    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(str(options["device"]).split(":")[0], kind, enabled=precision != "32")


def _theirs(pair: Pair, options: dict[str, Any], precision: str) -> Callable[[], object]:
    return _runner(
        pair.theirs,
        lambda: sum(pair.theirs(pair.images, pair.targets).values()),
        lambda: pair.theirs(pair.images),
        options,
        precision,
    )


def _ours(pair: Pair, options: dict[str, Any], precision: str) -> Callable[[], object]:
    return _runner(
        pair.ours,
        lambda: sum(pair.ours.loss(pair.batch).values()),
        lambda: pair.ours.predict(pair.batch),
        options,
        precision,
    )


def _runner(
    model: Any,
    loss: Callable[[], Any],
    predict: Callable[[], Any],
    options: dict[str, Any],
    precision: str,
) -> Callable[[], object]:
    """One training step without the optimiser, or one prediction."""
    import torch

    def train() -> None:
        model.train().zero_grad()
        with _autocast(options, precision):
            total = loss()
        total.backward()

    @torch.inference_mode()
    def infer() -> None:
        model.eval()
        with _autocast(options, precision):
            predict()

    return train if options["step"] == "train" else infer


def _figures(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Median seconds of each row, and how many times faster than torchvision's float32 it is."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    base = median.get("torchvision/32", next(iter(median.values())))
    figures = {f"{name}/seconds": value for name, value in median.items()}
    return figures | {f"{name}/speedup": base / value for name, value in median.items()}


def _print(figures: dict[str, float], options: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    height, width = options["size"]
    table = Table(
        title=f"{options['step']}: Faster R-CNN R{options['depth']}-FPN, "
        f"{options['batch']} x {height}x{width}, median of {options['rounds']} rounds",
        title_justify="left",
    )
    for column in ("", "seconds", "times torchvision's first row"):
        table.add_column(column, justify="left" if not column else "right")
    for name in (key.removesuffix("/seconds") for key in figures if key.endswith("/seconds")):
        table.add_row(
            name, f"{figures[f'{name}/seconds']:.3f}", f"{figures[f'{name}/speedup']:.2f}"
        )
    Console().print(table)
