"""`densekit verify`: decides whether two images show the same person or object."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from densekit.app.options.shared import existing
from densekit.app.options.table import Command, Option, flag, parse_command
from densekit.app.prediction.embedder import OPTIONS, embedder_of, no_threshold
from densekit.app.terminal import print_lines

COMMAND = Command(
    name="verify",
    usage="checkpoint=PATH A B [key=value ...]",
    about="""
Prints the similarity of two images (the cosine of their embeddings), the threshold together with
the false accept rate at which it was measured, and the answer. Prepare the images like those of
the training: aligned, if those were aligned.

The checkpoint holds thresholds if it was validated on pairs; so does an artifact that
`densekit eval checkpoint=PATH data=NAME artifact=FILE` has written. They are valid for images like
those pairs. Without a threshold there is no answer, and the exit code is 1.
""",
    examples=(
        "verify checkpoint=faces.ckpt one.png two.png",
        "verify checkpoint=faces.ckpt one.png two.png far=1e-2 json=true",
        "verify checkpoint=faces.ckpt one.png two.png threshold=0.45",
    ),
    options=(*OPTIONS, Option("json", flag(), False, "print one line of JSON")),
    words=("A", "B"),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if no threshold is known."""
    options, words = parse_command(COMMAND, arguments)
    files = [existing(name, word) for name, word in zip(COMMAND.words, words, strict=True)]
    embed = embedder_of(options)
    threshold = embed.threshold(options["threshold"], options["far"])
    first, second = embed(files)
    similarity = float(first.astype("f8") @ second.astype("f8"))
    same = None if threshold is None else similarity >= threshold.value
    if options["json"]:
        print(json.dumps(_facts(similarity, threshold, same)))
        return int(same is None)
    print_lines(f"similarity: {similarity:.4f}")
    if threshold is None:
        print_lines(no_threshold(options))
        return 1
    print_lines(f"threshold:  {threshold}", f"answer:     {'same' if same else 'different'}")
    return 0


def _facts(similarity: float, threshold: Any, same: bool | None) -> dict[str, Any]:
    return {
        "similarity": similarity,
        "threshold": threshold and threshold.value,
        "false_accept_rate": threshold and threshold.false_accept_rate,
        "same": same,
    }
