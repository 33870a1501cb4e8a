"""`densekit export`: a checkpoint as a program that runs without densekit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densekit._names import unknown
from densekit.app.errors import UsageError
from densekit.app.options import (
    checkpoint_file,
    number,
    refuse_rest,
    split_options,
    trusted_packages,
)
from densekit.app.report import print_lines

OPTIONS: dict[str, Any] = {
    "checkpoint": None,
    "output": None,
    "size": None,
    "batch": 1,
    "heads": None,
    "trust": [],
}


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    options, rest = split_options(arguments, OPTIONS)
    refuse_rest("export", rest, OPTIONS)
    checkpoint = checkpoint_file("export", options["checkpoint"])
    batch = int(number("export", "batch", options["batch"], at_least=1))
    trust = trusted_packages(options["trust"])
    from densekit.artifact import build_from_artifact, load_artifact
    from densekit.inference.export import SUFFIX, export_program, save_program

    file = Path(str(options["output"] or "")).expanduser()
    if file.suffix != SUFFIX:
        raise UsageError(f"densekit export: output=FILE{SUFFIX}, found {str(file)!r}")
    size = options["size"]
    if not isinstance(size, list) or not all(isinstance(side, int) for side in size):
        raise UsageError(f"densekit export: size=[HEIGHT,WIDTH] is needed, found {size!r}")
    artifact = load_artifact(checkpoint)
    if options["heads"] is not None:
        artifact = with_heads(artifact, options["heads"], trust)
    model = build_from_artifact(artifact, checkpoint, trust)
    program = export_program(model, size, batch)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_program(program, file, model.info, artifact["config"])
    print_lines(
        f"{file}: {', '.join(model.heads)} for {batch} x {size}, equal to the model on noise",
        f'use:  torch.export.load("{file}").module()(image, size)',
    )
    return 0


def with_heads(
    artifact: Mapping[str, Any], heads: Any, trust: Sequence[str] = ()
) -> dict[str, Any]:
    """An artifact of some of its heads; what only the others needed is gone.

    Args:
        artifact: See `densekit.artifact.load_artifact`.
        heads: Name or names.
        trust: See `densekit.artifact.model_from_artifact`.

    Raises:
        UsageError: There is no such head.
        ValueError: The configuration names what it may not build.
    """
    import torch
    import yaml

    from densekit.artifact import untrained

    config, info = yaml.safe_load(artifact["config"]), dict(artifact["info"])
    for name in (names := _listed(heads)):
        if name not in config["heads"]:
            raise UsageError(unknown("heads", name, config["heads"]))
    config["heads"] = {name: config["heads"][name] for name in names}
    info["heads"] = {name: info.get("heads", {}).get(name, {}) for name in names}
    text = yaml.safe_dump(config, sort_keys=False)
    with torch.device("meta"):
        kept = untrained({"config": text, "info": info}, trust).state_dict()
    state = {key: value for key, value in artifact["state_dict"].items() if key in kept}
    return {"config": text, "info": info, "state_dict": state}


def _listed(value: Any) -> list[str]:
    return [str(name) for name in (value if isinstance(value, list) else [value])]
