"""COCO evaluation in seconds: pycocotools against ours, in turn, after a proof of equal numbers.

    python tools/benchmarks/coco_evaluation.py images=5000 rounds=3

Timed is what follows the last batch of a validation: pycocotools from its lists of entries in
memory, ours from the metric that has seen every image. What the metric does during the batches
stands in a line of its own.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from densekit.app.options.table import Option, split_options, whole
from densekit.app.studies.coco_evaluation import check_numbers, evaluation_pair

OPTIONS = [
    Option("images", whole(1), 5000, "images evaluated"),
    Option("classes", whole(1), 80, "classes"),
    Option("rounds", whole(1), 3, "timed rounds"),
]


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(arguments: list[str]) -> None:
    """Prints medians and their ratio."""
    options, _ = split_options(arguments, OPTIONS)
    pair = evaluation_pair(options["images"], options["classes"])
    check_numbers(pair)
    rows = {"pycocotools": pair.theirs, "densekit": pair.ours, "collecting": pair.collect}
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(options["rounds"]):
        for name, run in rows.items():
            times[name].append(seconds(run))
    median = {name: statistics.median(values) for name, values in times.items()}
    print(f"{options['images']} images, {pair.detections} detections: twelve numbers bit-equal")
    print(
        f"pycocotools {median['pycocotools']:.2f} s, densekit {median['densekit']:.3f} s:", end=""
    )
    print(f" {median['pycocotools'] / median['densekit']:.1f} times")
    each = 1e6 * median["collecting"] / options["images"]
    print(f"collecting during the batches: {each:.0f} microseconds per image")


if __name__ == "__main__":
    main(sys.argv[1:])
