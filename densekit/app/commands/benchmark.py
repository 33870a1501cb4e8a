"""`densekit benchmark`: times a work of ours and of its peer in turn, in one process.

First their outputs must agree; see `densekit.app.studies.benchmark`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from densekit.app.errors import UsageError
from densekit.app.options.shared import CHECKPOINT, DEVICE, TRUST, device_name
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
from densekit.app.terminal import quoted

if TYPE_CHECKING:
    from densekit.app.studies.benchmark.work import Work

NETWORK = {
    **{"step": "train", "depth": 18, "size": [320, 448], "batch": 4, "classes": 3},
    **{"engine": ["eager"], "precision": ["fp32", "bf16"]},
}
MARGIN = {"batch": 256, "classes": 10_000}
WORKS: Mapping[str, Mapping[str, Any]] = {
    **dict.fromkeys(
        ("faster_rcnn", "mask_rcnn", "retinanet", "fcos", "unet", "deeplabv3plus"), NETWORK
    ),
    "sliding_window": {
        **{"depth": 18, "size": [1024, 1024], "batch": 4, "classes": 3},
        "precision": ["fp32", "bf16"],
    },
    **dict.fromkeys(("arcface", "cosface"), MARGIN),
    "coco_evaluation": {"batch": 5000, "classes": 80},
}
"""The options that each work has, and their defaults."""
OWN = {
    **{"step": "train", "size": None, "batch": None},
    **{"engine": ["eager"], "precision": ["fp32", "bf16"]},
}
"""Those of an experiment; a checkpoint alone predicts."""
COMMAND = Command(
    name="benchmark",
    usage="""
[work=NAME] [key=value ...]
experiment=NAME [checkpoint=PATH] [key=value ...]
checkpoint=PATH [key=value ...]
""".strip(),
    about="""
Times a work of another library and the same work of densekit in turn, on the same inputs and with
the same weights, after checking that their outputs are equal. Peers: torchvision (faster_rcnn,
mask_rcnn, retinanet, fcos), smp (unet, deeplabv3plus), MONAI (sliding_window),
pytorch-metric-learning (arcface, cosface) and pycocotools (coco_evaluation). Where ours is
compiled, the peer is too.

The other forms time the network of an experiment or a checkpoint, on its own images or on rendered
ones of a size. Beside it stands the same network of torchvision (Faster R-CNN) or smp (U-Net,
DeepLabV3+) with its weights, where there is one. A row that an engine cannot do is printed with the
reason.
""",
    examples=(
        "benchmark",
        "benchmark work=retinanet depth=50 size=[480,640] batch=2",
        "benchmark work=unet size=[256,320] batch=8",
        "benchmark step=predict depth=50 size=[800,1088] batch=1 engine=[eager,inductor]",
        "benchmark work=coco_evaluation output=coco.json",
        "benchmark experiment=quickstart step=predict chart=speed.png",
        "benchmark checkpoint=PATH size=[512,512] precision=[fp32,bf16]",
        "benchmark checkpoint=PATH data=bccd paths.data=FOLDER engine=[eager,inductor]",
    ),
    options=(
        Option("work", choice(*WORKS), None, "what is timed (default: faster_rcnn)"),
        replace(CHECKPOINT, required=False),
        Option(
            "step",
            choice("train", "predict"),
            None,
            "train is forward, losses and backward; predict includes post-processing (default:"
            " train; predict for a checkpoint alone)",
        ),
        Option("depth", choice(18, 34, 50), None, "depth of the ResNet (default: 18)"),
        Option(
            "size",
            sides(at_least=32),
            None,
            "sides of rendered images, multiples of 32 for smp (default: [320,448], of"
            " sliding_window [1024,1024]; others: their own images)",
        ),
        Option(
            "batch",
            whole(1),
            None,
            "images per step, windows per pass of sliding_window, embeddings of a margin, images of"
            " coco_evaluation (default: 4, 4, 256, 5000)",
        ),
        Option(
            "classes",
            whole(1),
            None,
            "number of classes or identities (default: 3; margins 10000, coco_evaluation 80)",
        ),
        Option(
            "engine",
            choices("eager", "inductor", "onnxruntime", "openvino"),
            None,
            "what computes our predictions (default: eager); with inductor a training step and the"
            " peer are compiled too",
        ),
        Option(
            "precision",
            choices("fp32", "bf16", "fp16", "int8"),
            None,
            "types to time (default: [fp32,bf16])",
        ),
        Option("rounds", whole(1), 5, "timed rounds, after one warm-up"),
        replace(DEVICE, default="cpu"),
        TRUST,
        Option("output", text("FILE.json|FILE.md"), None, "also write the results to this file"),
        Option("chart", text("FILE.png"), None, "also draw the speeds as bars"),
    ),
    settings=(
        ("experiment=NAME", "a file of the group experiment, listed below"),
        ("KEY=VALUE", "any value of the configuration of the experiment"),
    ),
    overrides=True,
    groups=lambda: ["experiment"],
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    given, words = parse_command(COMMAND, arguments)
    options = completed(given, words)
    from densekit.app.studies.benchmark.report import Report, check_file, print_report, write_report

    output = check_file("output", options["output"], ".json", ".md")
    chart = check_file("chart", options["chart"], ".png")
    options["device"] = device_name(options["device"])
    from densekit.app.studies.benchmark.machine import this_machine
    from densekit.app.studies.benchmark.timing import measure

    work = _work(options, words)
    machine = this_machine(options["precision"], options["device"])
    rows = measure(work, options["rounds"], options["device"], machine.peaks)
    command = " ".join(["densekit benchmark", *map(quoted, arguments)])
    report = Report(command, work.title, work.proof, options["rounds"], machine, rows)
    print_report(report)
    if output:
        write_report(report, output)
    if chart:
        from densekit.app.studies.benchmark.chart import draw

        draw([report], chart)
    return 0


def completed(given: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The options with the defaults of the work; `work` is None for an experiment or a checkpoint.

    Raises:
        UsageError: An option is not one of this work, or the work is not clear.
    """
    own = bool(words or given["checkpoint"])
    if own and given["work"]:
        raise UsageError(
            f"work: expected no value with an experiment or a checkpoint, got {given['work']}"
        )
    experiment = any(word.startswith("experiment=") for word in words)
    if words and not (experiment or given["checkpoint"]):
        raise UsageError(f"densekit benchmark: expected experiment=NAME, got {' '.join(words)}")
    name = None if own else given["work"] or "faster_rcnn"
    defaults = dict(OWN if name is None else WORKS[name])
    if own and not experiment:
        defaults["step"] = "predict"
    for key in {**NETWORK, **OWN}:
        if key not in defaults and given[key] is not None:
            where = f"work={name}" if name else "an experiment or a checkpoint"
            raise UsageError(f"{key}: expected no value with {where}, got {given[key]}")
    chosen = {key: value for key, value in given.items() if value is not None}
    return {**given, "precision": [], **defaults, **chosen, "work": name}


def _work(options: dict[str, Any], words: Sequence[str]) -> Work:
    if options["work"] is None:
        from densekit.app.studies.benchmark.own import own_work

        return own_work(options, words)
    return _maker(options["work"])(options)


def _maker(name: str) -> Callable[[dict[str, Any]], Work]:
    import importlib

    modules = {
        "faster_rcnn": ("detectors", "detector_work"),
        "mask_rcnn": ("instances", "instance_work"),
        **dict.fromkeys(("retinanet", "fcos"), ("one_stage", "one_stage_work")),
        **dict.fromkeys(("unet", "deeplabv3plus"), ("segmenters", "segmenter_work")),
        "sliding_window": ("windows", "window_work"),
        **dict.fromkeys(("arcface", "cosface"), ("margins", "margin_work")),
        "coco_evaluation": ("coco", "coco_work"),
    }
    module, function = modules[name]
    package = "densekit.app.studies.benchmark"
    made: Callable[[dict[str, Any]], Work] = getattr(
        importlib.import_module(f"{package}.{module}"), function
    )
    return made
