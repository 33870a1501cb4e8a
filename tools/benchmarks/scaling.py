"""Images per second against the number of GPUs, modelled from measurements of a single GPU.

A step takes the longer of loading and computing; computing is forward and backward, then what the
all-reduce of the gradients could not hide behind backward. Prints one row per number of GPUs.

    python tools/benchmarks/scaling.py images=12 seconds=0.5 megabytes=176
    python tools/benchmarks/scaling.py images=12 seconds=0.5 megabytes=176 loader=40 evaluation=300

See docs/scaling.md for the formula and its comparison with published tables.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields

COUNTS = (1, 2, 4, 8, 16, 32, 64)
BACKWARD = 2 / 3
"""Share of a step that is backward: it computes two gradients where forward computes one map."""


@dataclass(frozen=True)
class Setup:
    """What was measured, and the machine.

    Attributes:
        images: Images per GPU and step.
        seconds: Time of a step on one GPU, without loading.
        megabytes: Size of the gradients: 4 bytes per trained parameter, 2 with a 16-bit hook.
        node: GPUs per node.
        inside: Bandwidth between the GPUs of a node in GB/s, per GPU and direction.
        between: Bandwidth between nodes in GB/s, per node and direction.
        latency: Microseconds per message.
        hidden: Share of backward that the all-reduce can run beside, 0 to 1.
        spread: Relative standard deviation of a rank's step: the slowest rank is waited for.
        loader: Images per second that one GPU's share of the processor cores prepares.
        evaluation: Seconds per epoch of evaluation that are not shared among the GPUs.
        epoch: Images per epoch.
    """

    images: float
    seconds: float
    megabytes: float
    node: float = 8
    inside: float = 200.0
    between: float = 20.0
    latency: float = 10.0
    hidden: float = 0.9
    spread: float = 0.0
    loader: float = float("inf")
    evaluation: float = 0.0
    epoch: float = 118_287


def all_reduce(setup: Setup, gpus: int) -> float:
    """Seconds of a ring all-reduce: 2 (n - 1) / n of the gradients pass the slowest link."""
    if gpus == 1:
        return 0.0
    bandwidth = setup.inside if gpus <= setup.node else min(setup.inside, setup.between)
    messages = 2 * (gpus - 1)
    return messages / gpus * setup.megabytes / 1000 / bandwidth + messages * setup.latency / 1e6


def slowest(gpus: int) -> float:
    """Expected maximum of n standard normal values, approximately (Blom 1958)."""
    from statistics import NormalDist

    return NormalDist().inv_cdf((gpus - 0.375) / (gpus + 0.25)) if gpus > 1 else 0.0


def images_per_second(setup: Setup, gpus: int) -> float:
    """Images per second of all GPUs together, evaluation included."""
    waiting = 1 + setup.spread * slowest(gpus)
    exposed = max(0.0, all_reduce(setup, gpus) - setup.hidden * BACKWARD * setup.seconds)
    step = max(setup.seconds * waiting + exposed, setup.images / setup.loader)
    training = setup.epoch / (setup.images * gpus) * step
    return setup.epoch / (training + setup.evaluation)


def main(arguments: list[str]) -> None:
    """Prints the table."""
    known = [field.name for field in fields(Setup)]
    given = dict(word.split("=", 1) for word in arguments if "=" in word)
    missing = {"images", "seconds", "megabytes"} - set(given)
    if missing or set(given) - set(known) or len(given) < len(arguments):
        raise SystemExit(
            f"arguments: expected images, seconds and megabytes, and any of {', '.join(known[3:])},"
            f" each as KEY=NUMBER, got {' '.join(arguments) or 'none'}"
        )
    setup = Setup(**{key: float(value) for key, value in given.items()})
    alone = images_per_second(setup, 1)
    print("| GPUs | images per second | efficiency | all-reduce, ms |\n|---|---|---|---|")
    for gpus in COUNTS:
        speed = images_per_second(setup, gpus)
        reduced = 1000 * all_reduce(setup, gpus)
        print(f"| {gpus} | {speed:,.0f} | {speed / alone / gpus:.0%} | {reduced:.1f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
