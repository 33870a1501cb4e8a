"""`densekit verify`: do two pictures show the same person?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from densekit.app.errors import UsageError
from densekit.app.options import existing, split_options
from densekit.app.prediction.embedder import OPTIONS, Embedder, no_threshold
from densekit.app.report import print_lines


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 1 where there is no threshold to answer with."""
    options, words = split_options(arguments, {**OPTIONS, "json": False})
    if len(words) != 2:
        raise UsageError(
            f"densekit verify: two pictures, found {len(words)}: densekit verify checkpoint=PATH A"
            " B"
        )
    files = [existing("verify", name, word) for name, word in zip("AB", words, strict=True)]
    embed = Embedder("verify", options)
    threshold = embed.threshold(options)
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
