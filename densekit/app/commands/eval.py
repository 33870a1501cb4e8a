"""`densekit eval`: a checkpoint on a data set, or a file of results against annotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf, open_dict

from densekit.app.config.compose import apply_values, compose
from densekit.app.config.data_info import describe_for
from densekit.app.config.overrides import Overrides, Word, parse
from densekit.app.config.resolve import describe_data, resolve
from densekit.app.errors import UsageError
from densekit.app.options import Command, Option, choice, parse_command, text
from densekit.app.report import print_lines, print_table, write_metrics
from densekit.app.run import launch
from densekit.app.run.fit import HARDWARE, LIMITS
from densekit.app.run.folder import METRICS, PENDING, set_run_dir
from densekit.app.run.job import Job
from densekit.app.run.resuming import check_moved
from densekit.app.run.stored import keep_axes, reopen, stored_run
from densekit.app.shared_options import CHECKPOINT, TRUST, checkpoint_file, existing, output_folder

CHOICES = ("data", "metrics")
"""Groups of the configuration that an evaluation may choose from anew."""
USED = (
    *("data", "metrics", "inferer", "on_broken", "precision", "trust", "paths.data"),
    *(f"trainer.{name}" for name in (*HARDWARE, *LIMITS)),
    *("training.compile", "training.channels_last"),
)
"""Keys of the configuration that an evaluation makes use of, with all that is below them."""
SPLITS = ("test", "val")
"""In the order in which the default is chosen."""
OWN_TRAINER = {
    **{"devices": 1, "num_nodes": 1, "strategy": "auto", "accelerator": "auto"},
    **{"limit_val_batches": 1.0, "limit_test_batches": 1.0, "precision": "${precision}"},
}
"""What the trainer of a run says of training alone, or of the machine it ran on."""
PRECISION = "32-true"
"""As predictions are made unless told otherwise."""
OUTPUT = Option(
    "output",
    text("DIR"),
    None,
    "folder for metrics.json (default: runs/eval/TIMESTAMP; with results= nothing is written)",
)
FILES_OPTIONS = (
    Option("results", text("FILE", "a JSON file"), None, "COCO results", required=True),
    Option("annotations", text("FILE", "a JSON file"), None, "COCO annotations", required=True),
    Option("iou_type", choice("bbox", "segm"), "bbox", "compare boxes or masks"),
)
CHECKPOINT_OPTIONS = (
    CHECKPOINT,
    Option(
        "split",
        choice(*SPLITS),
        None,
        "split to evaluate (default: test, or val if there is no test split)",
    ),
    Option(
        "artifact",
        text("FILE"),
        None,
        "also write the model to this file, with the similarity thresholds that densekit verify"
        " needs",
    ),
)
COMMAND = Command(
    name="eval",
    usage="""
checkpoint=PATH [key=value ...]
results=FILE annotations=FILE [key=value ...]
""".strip(),
    about="""
The first form prints the metrics of a checkpoint and writes them to metrics.json. The data set is
the one the model was trained with, or another one: data=NAME. The second form needs no model: it
compares a file of COCO results with COCO annotations.
""",
    examples=(
        "eval checkpoint=runs/quickstart/TIMESTAMP",
        "eval checkpoint=PATH data=bccd paths.data=FOLDER split=val",
        "eval checkpoint=PATH data.bccd.test.root=FOLDER",
        "eval checkpoint=PATH trainer.devices=2 trainer.accelerator=cpu",
        "eval results=detections.json annotations=instances_val2017.json",
    ),
    options=[
        replace(option, required=False) for option in (*CHECKPOINT_OPTIONS, *FILES_OPTIONS, OUTPUT)
    ],
    settings=(
        ("data=NAME", "a file of the group data, listed below"),
        ("metrics=NAME", "a file of the group metrics, or several: metrics=[coco,voc]"),
        (
            "precision=NAME",
            f"{PRECISION}, bf16-mixed, 16-mixed, or auto as in training (default: {PRECISION})",
        ),
        (
            "trainer.KEY=VALUE",
            "devices, accelerator, limit_test_batches and so on; those of the training are not"
            " used",
        ),
        TRUST.row,
    ),
    overrides=True,
    groups=lambda: ["data", "metrics"],
)
CHECKPOINT_FORM = replace(COMMAND, options=(*CHECKPOINT_OPTIONS, OUTPUT))
FILES_FORM = replace(COMMAND, options=(*FILES_OPTIONS, OUTPUT), overrides=False)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    if any(word.partition("=")[0] in ("results", "annotations") for word in arguments):
        _of_files(arguments)
    else:
        evaluate(arguments)
    return 0


def evaluate(arguments: Sequence[str]) -> Path:
    """Measures a checkpoint and returns the folder of `metrics.json`.

    Args:
        arguments: `checkpoint=PATH`, then `data=NAME`, `split=`, `output=` and any key of the
            configuration (`trainer.devices=2`, `data.bccd.test.root=...`).

    Raises:
        UsageError: Checkpoint, data or a key is wrong; nothing has been done then.
    """
    options, rest = parse_command(CHECKPOINT_FORM, arguments)
    checkpoint = checkpoint_file(options["checkpoint"]).absolute()
    from densekit.artifact import load_artifact

    artifact = load_artifact(checkpoint)
    info = artifact["info"]
    cfg = _configuration(artifact, checkpoint, parse(rest))
    launch.check(dict(cfg.trainer))
    split = _choose_split(cfg, options["split"])
    sources = describe_data(cfg)
    _check_names(sources, info.get("heads", {}))
    _check_orientation(sources, info)
    kept = options["artifact"] and str(Path(options["artifact"]).expanduser().absolute())
    job = Job(resolve(cfg), "eval", sources)
    run = _folder(options["output"])
    placed, built = job.placed(run)
    placed |= {"command": "eval", "split": split, "checkpoint": str(checkpoint), "artifact": kept}
    launch.start(placed, built)
    if launch.is_main():
        print_lines(f"figures: {run / METRICS}")
        if kept is not None:
            print_lines(f"artifact: {kept}")
    return run


def _configuration(
    artifact: Mapping[str, Any], checkpoint: Path, overrides: Overrides
) -> DictConfig:
    """The checkpoint's configuration with other data or metrics, and with single values set."""
    chosen = overrides.where(lambda word: word.key in CHOICES)
    groups, trust = chosen.keys, overrides.trust
    of_data = overrides.where(lambda word: "data" in groups and _is_below_data(word))
    rest = overrides.where(lambda word: word not in (*chosen, *of_data))
    _refuse_choices(rest)
    stored, info = yaml.safe_load(artifact["config"]), artifact["info"]
    unused = ("callbacks", "logger", *(key for key in groups if key in stored))
    stored |= {key: {} for key in unused}
    plain = reopen(stored_run(stored, checkpoint, overrides.keys, trust))
    plain["trainer"] |= OWN_TRAINER
    plain["precision"] = PRECISION
    if groups:
        composed = compose(chosen + of_data).cfg
        set_run_dir(composed, PENDING)
        plain |= {key: OmegaConf.to_container(composed[key], resolve=True) for key in groups}
    keep_axes(plain["data"], info)
    cfg = OmegaConf.create(plain)
    OmegaConf.set_struct(cfg, True)
    apply_values(cfg, rest, trust)
    check_moved(rest, plain["data"])
    _refuse_unused(rest)
    cfg.paths.run = PENDING
    return cfg


def _is_below_data(word: Word) -> bool:
    """Whether a word sets a value of a data set, or a path that data sets lie in."""
    return word.key.startswith(("data.", "paths."))


def _refuse_choices(overrides: Overrides) -> None:
    """Refuses to choose what the checkpoint holds."""
    for word in overrides.choices:
        raise UsageError(
            f"densekit eval: {word.text}: the checkpoint holds it; expected data= or metrics="
        )


def _refuse_unused(overrides: Overrides) -> None:
    """Refuses what holds for training alone, or is the checkpoint's."""
    for word in overrides:
        if not any(word.key == name or word.key.startswith(f"{name}.") for name in USED):
            raise UsageError(
                f"densekit eval: {word.text}: an evaluation does not use it; expected a key of"
                f" {', '.join(USED)}"
            )


def _choose_split(cfg: DictConfig, wanted: str | None) -> str:
    """Keeps one split of the data sets, so that nothing else is read; returns its name."""
    present = [split for split in SPLITS if any(node.get(split) for node in cfg.data.values())]
    split = wanted or (present[0] if present else "test")
    if split not in present:
        found = ", ".join(present) or "none"
        raise UsageError(f"split={split}: the data {list(cfg.data)} has it not; it has: {found}")
    nodes = {name: node for name, node in cfg.data.items() if node.get(split)}
    with open_dict(cfg):
        cfg.data = {
            name: {**node, **{other: None for other in ("train", *SPLITS) if other != split}}
            for name, node in nodes.items()
        }
    return split


def _check_names(sources: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
    """Refuses data whose classes are not the model's: their labels would mean other things."""
    for name, source in sources.items():
        for head in source.heads:
            known = heads.get(head, {})
            if known and "names" not in known:  # identities have none
                continue
            own, found = known.get("names"), describe_for(source, head).get("names")
            if own != (found and list(found)):
                raise UsageError(
                    f"data.{name}: its classes {found} are not those of heads.{head} in the "
                    f"checkpoint, {own}"
                )


def _check_orientation(sources: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Refuses volumes that are turned in another way than the model was trained with."""
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
        return launch.agree_on_folder(Path("runs", "eval"))
    return output_folder(output)


def _of_files(arguments: Sequence[str]) -> None:
    """Measures COCO results against COCO annotations; no model and no images are needed."""
    from densekit.metrics.coco_files import evaluate_files

    options, _ = parse_command(FILES_FORM, arguments)
    results = existing("results", options["results"])
    annotations = existing("annotations", options["annotations"])
    figures = evaluate_files(results, annotations, iou_type=options["iou_type"])
    print_table(figures, f"{options['iou_type']} of {results}")
    if options["output"]:
        file = output_folder(options["output"]) / METRICS
        write_metrics(figures, file)
        print_lines(f"figures: {file}")
