"""Runs a function in several gloo processes and collects the return values of all ranks."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import (
    ProcessExitedException,
    ProcessRaisedException,
    start_processes,
)

PRELOADED = (__name__, "torch._dynamo", "lightning.pytorch")
"""Imported once by the server from which every rank is forked: in a fresh interpreter each rank
would spend eight seconds on them. DDP imports `torch._dynamo` itself."""


def run_distributed(fn: Callable[..., Any], world_size: int, *args: Any) -> list[Any]:
    """Calls `fn(rank, *args)` in `world_size` CPU processes joined by a gloo group.

    Args:
        fn: A function at the top level of a module: the processes import it by name.
        world_size: Number of processes.
        *args: Passed to every process; they must pickle.

    Returns:
        The return value of each rank, in order; tensors come back through `torch.save`.

    Raises:
        RuntimeError: Has the traceback of the rank that failed first; the others then fail in their
            collectives, in any order.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            multiprocessing.set_forkserver_preload(list(PRELOADED))
            ranks = (world_size, folder, fn, args)
            start_processes(_rank_main, ranks, world_size, start_method="forkserver")
        except (ProcessRaisedException, ProcessExitedException) as error:
            failures = sorted(folder.glob("*.error"), key=lambda file: file.stat().st_mtime_ns)
            if not failures:
                raise
            raise RuntimeError(f"{failures[0].stem}: {failures[0].read_text()}") from error
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _rank_main(
    rank: int, world_size: int, folder: Path, fn: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    dist.init_process_group(
        "gloo", init_method=(folder / "rendezvous").as_uri(), rank=rank, world_size=world_size
    )
    try:
        torch.save(fn(rank, *args), folder / f"{rank}.pt")
        # A rank that leaves early would close the file and the sockets that the others still need.
        dist.barrier()
    except Exception:
        (folder / f"rank {rank}.error").write_text(traceback.format_exc())
        raise
    finally:
        dist.destroy_process_group()
