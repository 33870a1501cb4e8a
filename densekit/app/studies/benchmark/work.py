"""What a benchmark times: rows that do the same work, proven equal before any clock starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "densekit"


@dataclass(frozen=True)
class Cost:
    """What a row costs on any machine.

    Attributes:
        parameters: Of the network.
        flops: Floating-point operations of the convolutions and matrix products of one step; a
            multiplication and an addition are two.
    """

    parameters: int
    flops: int


@dataclass(frozen=True)
class Row:
    """One way to do the work.

    Attributes:
        who: "densekit" or the peer.
        engine: What runs the network, "eager" for plain PyTorch; empty if there is no network.
        precision: "fp32", "bf16", "fp16" or "int8".
        make: Prepares the row and returns what is timed. Either may raise: the row is then
            reported with the message as its reason.
        cost: None if there is no network.
        agreement: Share of the results that are those of our eager fp32 row, from what one run
            returned; None where the proof alone has compared.
        trains: Whether it is a training step. It is timed as one of many: after an untimed one,
            and ours with the memory that our training keeps.
    """

    who: str
    engine: str
    precision: str
    make: Callable[[], Callable[[], Any]]
    cost: Cost | None = None
    agreement: Callable[[Any], float] | None = None
    trains: bool = False


@dataclass(frozen=True)
class Work:
    """A piece of work and everyone who does it.

    Attributes:
        title: What is done, on how much.
        proof: What was found equal.
        rows: The first is what the others are compared with.
    """

    title: str
    proof: str
    rows: Sequence[Row]
