"""Time and memory of a training step on the class centres alone, Partial FC against all of them.

Embeddings are random; forward, backward and an SGD step with momentum are timed. The peak is the
largest resident memory of a process of its own, without what the process had before.

    python tools/benchmarks/partial_fc.py identities=1000000 batch=128 rate=1.0
    python tools/benchmarks/partial_fc.py identities=1000000 batch=128 rate=0.1
"""

from __future__ import annotations

import resource
import sys
import time

import torch

from densekit.losses import PartialFC
from densekit.training.row_swap import RowSwap

DEFAULTS = {"identities": 1_000_000.0, "size": 512.0, "batch": 128.0, "rate": 1.0, "steps": 3.0}


def peak() -> float:
    """GiB that this process has had resident at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main(arguments: list[str]) -> None:
    """Prints the seconds per step (after a first one) and the peak."""
    given = dict(word.split("=") for word in arguments)
    options = {**DEFAULTS, **{key: float(value) for key, value in given.items()}}
    identities, size, batch, steps = (
        int(options[key]) for key in ("identities", "size", "batch", "steps")
    )
    before = peak()
    module = PartialFC(identities, size, rate=options["rate"])
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    swap = RowSwap(optimizer)
    seconds = []
    for step in range(steps + 1):
        embedding = torch.randn(batch, size, requires_grad=True)
        identity = torch.randint(0, identities, (batch,))
        key = torch.arange(batch) + step * 1_000_003
        start = time.perf_counter()
        optimizer.zero_grad()
        module(embedding, identity, torch.ones(batch, dtype=torch.bool), key)["ce"].backward()
        swap.swap_in(module.drawn_rows())
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    print(
        f"rate {options['rate']:g}: {min(seconds[1:]):.2f} to {max(seconds[1:]):.2f} s per step,"
        f" {peak() - before:.1f} GiB above the {before:.1f} of an empty process;"
        f" {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
