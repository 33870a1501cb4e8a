"""Starts one process or several.

densekit starts its own workers through torch's elastic launcher. Under torchrun or srun the
processes exist already, and each of them is a worker.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import uuid
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import Any

from densekit._signals import STOPS
from densekit.app.config.trainer import FSDP
from densekit.app.errors import Stopped, UsageError
from densekit.app.run.fit import run_job
from densekit.app.run.folder import seal, write_config

STOP_SECONDS = 300
"""Time that workers get to finish their step and to save after a signal."""
FEW = 4
"""Processes that may run on fewer CPU cores: enough to try how they work together."""


def started_outside() -> bool:
    """Whether torchrun or srun has started this process as one of several."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ or slurm_tasks() > 1


def is_main() -> bool:
    """Whether this process is the one that writes and prints."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) == 0 or (
        not started_outside()
    )


def check(trainer: Mapping[str, Any]) -> None:
    """Refuses a launch that cannot yield the processes that are asked for.

    Args:
        trainer: Settings of the trainer.

    Raises:
        UsageError: Several nodes, or several tasks of SLURM, without torchrun or srun; or more
            processes than the CPU has cores, beyond a few to try how they work together; or one
            process alone with a strategy that divides weights.
    """
    if trainer.get("strategy") == FSDP and count_processes(trainer) == 1:
        raise UsageError(
            "trainer.strategy: expected auto with one process, which holds all weights, got fsdp;"
            " set trainer.devices"
        )
    if started_outside():
        return
    if (nodes := int(trainer.get("num_nodes", 1))) > 1:
        raise UsageError(
            f"trainer.num_nodes: expected 1 without torchrun or srun, got {nodes};"
            " start several nodes with one of them"
        )
    tasks = int(os.environ.get("SLURM_NTASKS") or 1)
    by_hand = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    if tasks > 1 and not by_hand and count_devices(trainer) == 1:
        raise UsageError(
            f"SLURM_NTASKS: expected 1 for a process without srun, got {tasks}; write `srun"
            f" densekit ...` for {tasks} processes, or `#SBATCH --ntasks=1`"
        )
    count, most = count_devices(trainer), max(os.cpu_count() or 1, FEW)
    if count > most and _is_on_cpu(trainer):
        raise UsageError(f"trainer.devices: expected at most {most} processes here, got {count}")


def start(cfg: dict[str, Any], sources: dict[str, Any] | None = None) -> None:
    """Runs a resolved job: here, or in as many workers as `trainer.devices` asks for.

    Args:
        cfg: Resolved configuration with `paths.run`; it is written there first.
        sources: Its data sets, if they are already built; workers build their own.
    """
    trainer = cfg["trainer"]
    if started_outside():
        adopt_world(trainer)
        if is_main():
            write_config(cfg, Path(cfg["paths"]["run"]))
        run_job(cfg, sources)
        return
    count = count_devices(trainer)
    if count > 1 and trainer.get("strategy", "auto") == "auto":
        trainer["strategy"] = "ddp"
    file = write_config(cfg, Path(cfg["paths"]["run"]))
    if count > 1:
        if sources is not None:
            sources.clear()  # frees their memory, as the workers build their own
        _launch(file, count)
    else:
        run_job(cfg, sources)


def _is_on_cpu(trainer: Mapping[str, Any]) -> bool:
    import torch

    accelerator = trainer.get("accelerator", "auto")
    return accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())


def adopt_world(trainer: MutableMapping[str, Any]) -> None:
    """Sets devices and nodes to what torchrun or srun has actually started."""
    if "LOCAL_WORLD_SIZE" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // local
    else:
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", os.environ.get("SLURM_NNODES", "1")))
        local = slurm_tasks() // nodes
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(local))  # Lightning insists on it
    trainer.update(devices=local, num_nodes=nodes)
    if local * nodes > 1 and trainer.get("strategy", "auto") == "auto":
        trainer["strategy"] = "ddp"


def count_devices(trainer: Mapping[str, Any]) -> int:
    """Returns how many processes `trainer.devices` asks for on this machine.

    Accepts what Lightning does: a number, -1 or "auto" for all, a list, "0,1".
    """
    devices, accelerator = trainer.get("devices", "auto"), str(trainer.get("accelerator", "auto"))
    if isinstance(devices, str) and re.fullmatch(r"-?\d+", devices):
        devices = int(devices)
    if not isinstance(devices, str) and isinstance(devices, Sequence):
        return len(devices)
    if isinstance(devices, int) and devices >= 0:
        return devices
    if isinstance(devices, str) and "," in devices:
        return len([part for part in devices.split(",") if part.strip()])
    import torch

    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.cuda.device_count() if on_gpu else 1


def count_processes(trainer: Mapping[str, Any]) -> int:
    """Returns how many processes a run has: those that exist already, or will be started."""
    if not started_outside():
        return count_devices(trainer)
    return int(os.environ.get("WORLD_SIZE", slurm_tasks()))


def _launch(file: Path, count: int) -> None:
    """Starts the workers and waits for them; if one fails, the others are ended.

    A signal that ends this process is first passed on to the workers, which save and end.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Every process would otherwise take all cores, and all of them would wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(STOP_SECONDS))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    args = ("-m", "densekit.app.worker", str(file), seal(file), str(os.getpid()))
    handlers = {number: signal.getsignal(number) for number in _taken_by_elastic()}
    try:
        elastic_launch(config, sys.executable)(*args)
    except SignalException as error:
        raise Stopped(error.sigval) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        for number in STOPS:
            if failure.exitcode in (-number, 128 + number):
                raise Stopped(number) from None
        raise UsageError(
            f"{file.parent}: expected exit code 0 of all workers, got {failure.exitcode} of worker"
            f" {rank} of {count}; its message is above"
        ) from error
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _taken_by_elastic() -> list[signal.Signals]:
    """The signals whose handlers torch's launcher replaces; Windows lacks some."""
    return [*STOPS, *([signal.SIGQUIT] if hasattr(signal, "SIGQUIT") else [])]


def slurm_tasks() -> int:
    """Number of processes of this srun step; 0 outside a step: in a batch script or shell."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "0"))
