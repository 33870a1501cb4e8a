"""`densekit replay`: repeats the step at which a training met a NaN or infinite number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from densekit.app.errors import UsageError
from densekit.app.options.shared import TRUST, existing
from densekit.app.options.table import Command, parse_command
from densekit.app.terminal import number_text, print_lines, print_numbers

if TYPE_CHECKING:
    from densekit.training.step import Step

COMMAND = Command(
    name="replay",
    usage="FILE [trust=[PACKAGE]]",
    about="""
Repeats, on the CPU, the step at which a training stopped because its loss or a gradient was NaN or
infinite: with the batch, the weights and the random numbers of RUN/non_finite/rank_0.pt. Prints the
terms of the loss, the first module whose output and the first parameter whose gradient is not
finite, the images, and the likely cause: data, learning rate, precision or the loss itself.

The exit code is 1 if everything is finite here.
""",
    examples=(
        "replay runs/quickstart/TIMESTAMP/non_finite/rank_0.pt",
        "replay runs/quickstart/TIMESTAMP",
    ),
    options=(TRUST,),
    words=("FILE",),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit code."""
    from densekit.training.likely_cause import cause_of_gradient, cause_of_loss
    from densekit.training.step import regrade, rerun

    options, words = parse_command(COMMAND, arguments)
    evidence, step = _read(_file(words[0]), options["trust"])
    terms, module = rerun(step)
    _, gradients = regrade(step)
    print_lines(f"step:     {evidence['step']}, learning rate {step.rate:g}, {step.precision}")
    rows = [[n, number_text(evidence["terms"].get(n)), number_text(v)] for n, v in terms.items()]
    print_numbers(["loss", "in the run", "here"], rows)
    print_lines(
        f"output:   {module or 'of all modules finite'}",
        f"gradient: {gradients[0] if gradients else 'of all parameters finite'}",
        *(f"images:   {source}: {', '.join(of)}" for source, of in evidence["files"].items()),
    )
    diverged = module is not None or not all(map(math.isfinite, terms.values()))
    if not diverged and not gradients:
        print_lines(f"cause:    not found here; in the run: {evidence['cause']}")
        return 1
    cause = cause_of_loss(step) if diverged else cause_of_gradient(step, repeats=True)
    print_lines(f"cause:    {cause}")
    return 0


def _file(word: str) -> Path:
    path = existing("FILE", word)
    if not path.is_dir():
        return path
    found = sorted((path / "non_finite").glob("rank_*.pt"))
    if not found:
        raise UsageError(f"{path}: expected a run with non_finite/rank_0.pt, got none")
    return found[0]


def _read(file: Path, trust: Sequence[str]) -> tuple[dict[str, Any], Step]:
    """Reads the file, and builds its model as the training did, frozen parts included."""
    import torch

    from densekit.artifact import build_from_artifact, load_artifact, read_checkpoint
    from densekit.build import instantiate
    from densekit.training.evidence import KEYS, stored_step
    from densekit.trust import check_stored

    evidence = read_checkpoint(file)
    if missing := [key for key in KEYS if key not in evidence]:
        raise UsageError(
            f"{file}: expected what a non-finite loss leaves, RUN/non_finite/rank_0.pt, got a file"
            f" without {', '.join(missing)}"
        )
    artifact = load_artifact(file)
    training = yaml.safe_load(artifact["config"]).get("training", {})
    check_stored({"training": training}, trust)
    lit = instantiate(training, "training")(build_from_artifact(artifact, file, trust))
    lit.train()
    dtype = {"bf16": torch.bfloat16, "16-m": torch.float16}.get(evidence["precision"][:4])
    return evidence, stored_step(
        evidence, lit.model, lambda: torch.autocast("cpu", dtype, enabled=dtype is not None)
    )
