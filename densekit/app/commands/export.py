"""`densekit export`: exports a checkpoint as a program that runs without densekit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit._files import replacing
from densekit._names import unknown
from densekit.app.config.overrides import trusted_packages
from densekit.app.errors import UsageError
from densekit.app.options.shared import CHECKPOINT, TRUST, checkpoint_file
from densekit.app.options.table import (
    Command,
    Option,
    choice,
    names,
    parse_command,
    sides,
    text,
    whole,
)
from densekit.app.report import print_lines

COMMAND = Command(
    name="export",
    usage="checkpoint=PATH output=FILE.pt2 size=[HEIGHT,WIDTH] [key=value ...]",
    about="""
Writes the network and its post-processing as a torch.export program of static shape, runs the
program next to the model, and deletes it if their outputs differ. The program takes image
(B, C, H, W), float32 in the unit of mean and std, and size (B, 2), the height and width of each
image without padding. It returns HEAD/KEY, for example detection/boxes, in image coordinates. The
file also holds class names, mean, std, resize rule and configuration: densekit info FILE.pt2.
""",
    examples=(
        "export checkpoint=PATH output=model.pt2 size=[256,448]",
        "export checkpoint=PATH output=masks.pt2 size=[512,512] heads=[segmentation] batch=8",
    ),
    options=(
        CHECKPOINT,
        Option("format", choice("torch_export"), "torch_export", "format of the file"),
        Option("output", text("FILE.pt2"), None, "file of the program", required=True),
        Option("size", sides(), None, "sides of the images, in pixels or voxels", required=True),
        Option("batch", whole(1), 1, "images per call"),
        Option(
            "heads",
            names(),
            (),
            "heads to export, without what only the others need (default: all)",
        ),
        TRUST,
    ),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, _ = parse_command(COMMAND, arguments)
    checkpoint = checkpoint_file(options["checkpoint"])
    size, batch = options["size"], options["batch"]
    trust = trusted_packages(options["trust"])
    from densekit.artifact import build_from_artifact, load_artifact
    from densekit.inference.export.base import CONFIG, INFO, Example
    from densekit.inference.export.formats import format_of
    from densekit.inference.export.gate import check_on_noise

    made = format_of(options["format"])
    file = Path(options["output"]).expanduser()
    if file.suffix != made.suffix:
        raise UsageError(f"output: expected a file that ends in {made.suffix}, got {file}")
    artifact = load_artifact(checkpoint)
    if options["heads"]:
        artifact = with_heads(artifact, options["heads"], trust)
    model = build_from_artifact(artifact, checkpoint, trust)
    example = Example(tuple(size), batch)
    example.check(model)
    with replacing(file) as part:
        made.export(model, example, part, "fp32")
        check_on_noise(model, made.open(part), example)
        made.write_facts(part, {INFO: json.dumps(model.info), CONFIG: artifact["config"]})
    print_lines(
        f"{file}: {', '.join(model.heads)} for {batch} x {size}, equal to the model on noise",
        f'use:  torch.export.load("{file}").module()(image, size)',
    )
    return 0


def with_heads(
    artifact: Mapping[str, Any], heads: Sequence[str], trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Reduces an artifact to some of its heads, without what only the others need.

    Args:
        artifact: See `densekit.artifact.load_artifact`.
        heads: Names of the heads to keep.
        trust: See `densekit.artifact.model_from_artifact`.

    Raises:
        UsageError: A head is not in the artifact.
        ValueError: The configuration names a class that it must not build.
    """
    import torch
    import yaml

    from densekit.artifact import untrained

    config, info = yaml.safe_load(artifact["config"]), dict(artifact["info"])
    for name in heads:
        if name not in config["heads"]:
            raise UsageError(unknown("heads", name, config["heads"]))
    config["heads"] = {name: config["heads"][name] for name in heads}
    info["heads"] = {name: info.get("heads", {}).get(name, {}) for name in heads}
    text = yaml.safe_dump(config, sort_keys=False)
    with torch.device("meta"):
        kept = untrained({"config": text, "info": info}, trust).state_dict()
    state = {key: value for key, value in artifact["state_dict"].items() if key in kept}
    return {"config": text, "info": info, "state_dict": state}
