"""`densekit export`: exports a checkpoint into a file that runs without densekit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import finite, replacing
from densekit._names import unknown
from densekit.app.errors import UnmetError, UsageError
from densekit.app.options.shared import CHECKPOINT, THRESHOLD, TRUST, checkpoint_file
from densekit.app.options.table import (
    Command,
    Option,
    choice,
    choices,
    flag,
    names,
    parse_command,
    sides,
    text,
    whole,
)
from densekit.app.terminal import print_lines

if TYPE_CHECKING:
    from densekit.inference.export.base import Format
    from densekit.inference.export.gate import Parity

COMMAND = Command(
    name="export",
    usage="checkpoint=PATH output=FILE size=[HEIGHT,WIDTH] [key=value ...]",
    about="""
Writes the network and its post-processing into a file that runs without densekit, runs the file
next to the model, and refuses it, with exit code 1, if they differ: on the images of data=NAME,
whose metrics are measured for both, on the pictures of images=FOLDER, or else on noise.

With resize=true the file takes a picture (H, W, C) of any size, uint8 as decoders give it, and
answers in its pixels: detection/boxes, segmentation/mask. Else it takes image (B, C, H, W), float32
in the unit of mean and std, and size (B, 2), the height and width of each image without padding,
and returns HEAD/KEY in image coordinates. It also holds class names, mean, std, resize rule,
configuration, the measured differences, and from which score boxes, labels and pixels count:
densekit info FILE. Masks in a file with resize=true are decided by it; boxes are all there.
""",
    examples=(
        "export checkpoint=PATH output=model.onnx size=[320,448] resize=true split=test",
        "export checkpoint=PATH output=model.pt2 size=[256,448]",
        "export checkpoint=PATH output=model.onnx size=[320,448] data=bccd split=val",
        "export checkpoint=PATH output=model.xml size=[320,448] precision=int8 split=test",
        "export checkpoint=PATH output=masks.pt2 size=[512,512] heads=[segmentation] images=FOLDER",
    ),
    options=(
        CHECKPOINT,
        Option(
            "format",
            choice("torch_export", "aotinductor", "onnx", "openvino", "executorch"),
            None,
            "format of the file (default: by the end of its name; of .pt2 it is torch_export)",
        ),
        Option("output", text("FILE"), None, "the file", required=True),
        Option("size", sides(), None, "sides of the images, in pixels or voxels", required=True),
        Option("batch", whole(1), 1, "images per call"),
        Option(
            "dynamic",
            choices("batch", "size"),
            (),
            "what may differ from call to call: the number of images, their sides",
        ),
        Option(
            "resize",
            flag(),
            False,
            "the file takes one picture of any size, (H, W, C) uint8, resizes it as the model does"
            " and answers in its pixels; size= is then the frame that it is resized into",
        ),
        Option(
            "precision",
            choice("fp32", "bf16", "fp16", "int8"),
            "fp32",
            "type in which the network computes, as far as the format has it",
        ),
        Option(
            "heads",
            names(),
            (),
            "heads to export, without what only the others need (default: all)",
        ),
        Option(
            "images",
            text("PATH"),
            None,
            "pictures to compare file and model on, and to measure the scales of int8 on",
        ),
        Option(
            "split",
            choice("test", "val"),
            None,
            "split of the data to compare on; without data=, of the data of the training",
        ),
        THRESHOLD,
        Option("limit", whole(1), None, "most images to compare on (default: all)"),
    ),
    settings=(
        (
            "data=NAME",
            "a data set to compare on, with its metrics, as for densekit eval; the scales of int8"
            " are measured on its training images",
        ),
        TRUST.row,
    ),
    overrides=True,
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, rest = parse_command(COMMAND, arguments)
    checkpoint = checkpoint_file(options["checkpoint"]).absolute()
    from densekit.app.config.overrides import parse
    from densekit.app.studies.export_int8 import write_int8
    from densekit.app.studies.export_parity import Ground
    from densekit.artifact import build_from_artifact, load_artifact
    from densekit.inference.export.base import CONFIG, INFO, PARITY, SHAPES, Example
    from densekit.inference.export.formats import format_by_suffix, format_of
    from densekit.inference.export.gate import Pair, joined, on_other_noise
    from densekit.inference.export.pictures import check_pictures
    from densekit.inference.predictor import stored_inferer
    from densekit.inference.thresholds import chosen_thresholds, with_thresholds

    file, precision = Path(options["output"]).expanduser(), options["precision"]
    made = format_of(options["format"] or format_by_suffix(file))
    _check(made, file, options)
    overrides = parse(rest)
    artifact = load_artifact(checkpoint)
    kept = with_heads(artifact, options["heads"], overrides.trust)
    model = build_from_artifact(kept, checkpoint, overrides.trust).eval()
    thresholds = chosen_thresholds(model, options["threshold"])
    model.decided = {name: one.values for name, one in thresholds.items()}
    dynamic = tuple(options["dynamic"])
    example = Example(tuple(options["size"]), options["batch"], dynamic, options["resize"])
    example.check(model)
    if example.resize:
        check_pictures(model, example.sides, stored_inferer(artifact, checkpoint, overrides.trust))
    dims = 3 if model.info.get("slices") else model.spatial_dims
    ground = Ground(artifact, checkpoint, overrides, options, dims)
    with replacing(file) as part:
        if precision == "int8":
            parity = write_int8(made, model, example, part, ground)
        else:
            made.export(model, example, part, precision)
            pair = Pair.of(model, made.open(part), example, made.name, precision)
            parity = ground.compare(pair, example, overrides.trust)
            if "size" in example.dynamic:
                parity = joined([parity, on_other_noise(pair, example)])
        _refuse(parity, file)
        info = with_thresholds(model.info, thresholds)
        facts = {INFO: info, SHAPES: asdict(example), PARITY: parity.facts()}
        texts = {name: json.dumps(finite(fact)) for name, fact in facts.items()}
        made.write_facts(part, {**texts, CONFIG: kept["config"]})
        for beside in part.parent.iterdir():  # such as weights in a file of their own
            if beside != part:
                beside.replace(file.absolute().parent / beside.name)
    print_lines(f"{file}: {', '.join(model.heads)} for {options['batch']} x {options['size']}")
    print_lines(*(f"threshold of {name}: {one}" for name, one in thresholds.items()))
    print_lines(*parity.lines())
    return 0


def _check(made: Format, file: Path, options: Mapping[str, Any]) -> None:
    """Refuses what the format cannot do before any work."""
    if file.suffix != made.suffix:
        raise UsageError(f"output: expected a file that ends in {made.suffix}, got {file}")
    for key, wanted, able in (
        ("precision", [options["precision"]], made.precisions),
        ("dynamic", options["dynamic"], made.dynamic),
    ):
        if unable := [one for one in wanted if one not in able]:
            accepted = " or ".join(able) or "nothing"
            raise UsageError(f"{key}: expected {accepted} with format={made.name}, got {unable[0]}")
    if options["resize"]:
        _check_resize(made, options)


def _check_resize(made: Format, options: Mapping[str, Any]) -> None:
    """Refuses what cannot be had together with `resize=true`."""
    if "size" not in made.dynamic:
        raise UsageError(
            f"resize: expected false with format={made.name}, whose files take images of one size,"
            " got true; torch_export, onnx and openvino take pictures of any"
        )
    if options["batch"] > 1:
        raise UsageError(
            "batch: expected 1 with resize=true, as pictures of different sizes cannot be stacked,"
            f" got {options['batch']}"
        )
    if options["dynamic"]:
        raise UsageError(
            "dynamic: expected nothing with resize=true, as one picture of any size is resized into"
            f" the frame of size=, got {', '.join(options['dynamic'])}"
        )


def _refuse(parity: Parity, file: Path) -> None:
    """Refuses a file that is not equal to its model."""
    if parity.beyond:
        lines = [f"export: expected a file equal to its model on {parity.on}, got"]
        lines += [f"  {line}" for line in map(str, parity.beyond)]
        raise UnmetError("\n".join([*lines, f"  {file} is not written"]))


def with_heads(
    artifact: Mapping[str, Any], heads: Sequence[str], trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Reduces an artifact to some of its heads, without what only the others need.

    Args:
        artifact: See `densekit.artifact.load_artifact`.
        heads: Names of the heads to keep; none keeps all.
        trust: See `densekit.artifact.model_from_artifact`.

    Raises:
        UsageError: A head is not in the artifact.
        ValueError: The configuration names a class that it must not build.
    """
    import torch
    import yaml

    from densekit.artifact import untrained

    if not heads:
        return dict(artifact)
    config, info = yaml.safe_load(artifact["config"]), dict(artifact["info"])
    for name in heads:
        if name not in config["heads"]:
            raise UsageError(unknown("heads", name, config["heads"]))
    config["heads"] = {name: config["heads"][name] for name in heads}
    config.pop("combine", None)  # results are combined, not what a program computes
    info["heads"] = {name: info.get("heads", {}).get(name, {}) for name in heads}
    text = yaml.safe_dump(config, sort_keys=False)
    with torch.device("meta"):
        kept = untrained({"config": text, "info": info}, trust).state_dict()
    state = {key: value for key, value in artifact["state_dict"].items() if key in kept}
    return {"config": text, "info": info, "state_dict": state}
