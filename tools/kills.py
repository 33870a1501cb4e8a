"""Kills a training again and again at random moments, resumes it, and compares what it reaches.

Every start is a process of its own that runs `densekit train`, forked from one that has imported
the libraries, as these take longer to import than the training takes; the workers of several
processes are started as usual. A chain of starts is killed until it reaches its end; then weights,
optimiser, metrics, best scores, curves, logs and rows per image must equal those of a training that
was never stopped: bit for bit, but to rounding where the number of processes changes at every
start.

    python tools/kills.py kills=50 output=kills.jsonl
    python tools/kills.py kills=5 'signals=[TERM]' 'cases=[EMA,2 processes]' output=kills.jsonl
    python tools/kills.py table output=kills.jsonl
"""

from __future__ import annotations

import csv
import importlib
import itertools
import json
import math
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

if TYPE_CHECKING:
    from multiprocessing.context import ForkProcess

TINY = [
    *("experiment=quickstart_classification", "backbone.width=8", "precision=32-true", "seed=3"),
    *("trainer.accelerator=cpu", "trainer.max_epochs=3", "data.scenes.train.length=32"),
    *("data.scenes.val.length=7", "data.scenes.test=null", "data.scenes.batch_size=4"),
    *("data.scenes.eval_batch_size=2", "data.scenes.num_workers=0"),
    *(f"data.scenes.{split}.size=[64,64]" for split in ("train", "val")),
    *("callbacks.pictures=null", "callbacks.confusion=null", "callbacks.progress=null"),
    *("callbacks.checkpoint.monitor=val/loss", "callbacks.checkpoint.mode=min", "expected={}"),
    *("callbacks.checkpoint.last_every_n_steps=2", "logger=csv"),
]
TWO = ("trainer.devices=2", "data.scenes.batch_size=2")
SMOOTH = ("backbone.norm=group", "optimizer=sgd", "optimizer.lr=0.01", "precision=64-true")
"""A norm that sees one image, and little rounding, which training amplifies."""
CASES = {
    "plain": (),
    "2 workers": ("data.scenes.num_workers=2",),
    "EMA": ("+callbacks.ema._target_=densekit.training.Ema", "callbacks.ema.decay=0.9"),
    "accumulation": ("trainer.accumulate_grad_batches=3",),
    "validation within epochs": ("trainer.val_check_interval=3",),
    "both": ("trainer.accumulate_grad_batches=2", "trainer.val_check_interval=3"),
    "2 processes": TWO,
    "2 processes, 1 worker each": (*TWO, "data.scenes.num_workers=1"),
    "2 and 1 processes in turn": SMOOTH,
}
IN_TURN = "2 and 1 processes in turn"
LIBRARIES = (
    *("albumentations", "matplotlib.pyplot", "lightning.pytorch", "torchmetrics", "torchvision"),
    *("densekit.training", "densekit.app.run.job", "torch.distributed.launcher.api"),
)
PATIENCE = 180
"""Seconds after which a process that was told to end counts as hung."""
START = 5
"""Seconds that a start may take on a busy machine."""
TOLERANCE = 1e-6


@dataclass
class Chain:
    """A training that is killed until it ends.

    Attributes:
        case: Of `CASES`.
        number: SIGKILL or SIGTERM.
        runs: Its run folders, in order.
        kills: What happened at each kill.
        problems: What was not as it must be.
    """

    case: str
    number: signal.Signals
    folder: Path
    runs: list[Path] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def train(words: list[str], folder: Path) -> ForkProcess:
    """Starts a training in a process group of its own."""
    process = multiprocessing.get_context("fork").Process(target=_train, args=(words, folder))
    process.start()
    while process.is_alive() and os.getpgid(process.pid or 0) != process.pid:
        time.sleep(0.001)
    return process


def _train(words: list[str], folder: Path) -> None:
    os.setsid()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    console = os.open(folder / "console.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(console, stream)
    from densekit.app.cli import main as densekit

    sys.exit(densekit(["train", *words, f"paths.runs={folder}"]))


def finished(words: list[str], folder: Path) -> Path:
    """Trains without a stop; returns the run folder.

    Raises:
        RuntimeError: The training failed.
    """
    folder.mkdir(parents=True)
    process = train(words, folder)
    process.join()
    if code := process.exitcode:
        raise RuntimeError(f"{folder}: expected exit code 0, got {code}; see console.txt there")
    return newest_run(folder)


def newest_run(folder: Path) -> Path:
    """The run folder that was created last."""
    return max(folder.glob("*/*/"), key=lambda run: run.stat().st_ctime_ns)


def follow(chain: Chain, kills: int, draw: random.Random) -> None:
    """Starts, kills and resumes until the training ends or enough kills are done."""
    for turn in itertools.count():
        words = ["trust=[]", *words_of(chain, turn)]
        before = set(chain.folder.glob("*/*/"))
        process = train(words, chain.folder)
        if len(chain.kills) < kills:
            wait_for_moment(process, chain.folder, before, draw)
        else:
            process.join(PATIENCE * 2)
            if process.is_alive():
                chain.problems.append("hung without a kill")
        code = process.exitcode
        if code is None:
            end(process, chain, draw)
        chain.runs += sorted(set(chain.folder.glob("*/*/")) - before)
        if code is not None:
            if code:
                chain.problems.append(f"exit code {code} before the kill")
            return
        if chain.problems:
            return


def words_of(chain: Chain, turn: int) -> list[str]:
    """The arguments of the next start: anew until there is a checkpoint, then resumed."""
    saved = [run for run in chain.runs if (run / "checkpoints" / "last.ckpt").is_file()]
    words = [f"resume={saved[-1]}"] if saved else [*TINY, *CASES[chain.case]]
    if chain.case == IN_TURN:
        words += TWO if turn % 2 == 0 else ("trainer.devices=1", "data.scenes.batch_size=4")
    return words


def wait_for_moment(
    process: ForkProcess, folder: Path, before: set[Path], draw: random.Random
) -> None:
    """Waits for a random number of saved checkpoints and a random time, or the end."""
    saves, seen, stamp = draw.choice((0, 1, 1, 2, 2, 3, 4)), 0, 0
    if not saves:
        time.sleep(draw.uniform(0, START))
    while seen < saves and process.is_alive():
        for run in set(folder.glob("*/*/")) - before:
            file = run / "checkpoints" / "last.ckpt"
            now = file.stat().st_mtime_ns if file.is_file() else 0
            seen, stamp = seen + (now != stamp), now
        time.sleep(0.01)
    time.sleep(draw.uniform(0, 0.3))


def end(process: ForkProcess, chain: Chain, draw: random.Random) -> None:
    """Sends the signal to the launcher, to its whole group or to a worker; waits for all to end."""
    leader = process.pid or 0
    workers = children(leader)
    several = "processes" in chain.case and workers
    target = draw.choice(("launcher", "group", "worker")) if several else "launcher"
    if target == "group":
        os.killpg(leader, chain.number)
    else:
        os.kill(draw.choice(workers) if target == "worker" else leader, chain.number)
    chain.kills.append(target)
    began = time.monotonic()
    process.join(PATIENCE)
    while group(leader) and time.monotonic() < began + PATIENCE:
        time.sleep(0.05)
    code = process.exitcode
    if code is None or group(leader):
        chain.problems.append(f"hung after the kill of the {target}")
        os.killpg(leader, signal.SIGKILL)
        process.join()
    elif chain.number == signal.SIGTERM and code not in (143, -15):
        chain.problems.append(f"exit code {code} after SIGTERM to the {target}")


def children(parent: int) -> list[int]:
    """Processes that a process has started."""
    file = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(word) for word in file.read_text().split()] if file.is_file() else []


def group(leader: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[2]) == leader and words[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def differences(run: Path, reference: Path, exact: bool) -> list[str]:
    """Names of what differs between two finished runs."""
    one, two = dict(results(run)), dict(results(reference))
    names = sorted({*one, *two})
    if not exact:  # a process logs the loss of its own images, so that curves and rows differ
        names = [n for n in names if "state" in n.split("/")[1] or n.startswith("metrics.json")]
    return [name for name in names if not equal(one.get(name), two.get(name), exact)]


def results(run: Path) -> Iterator[tuple[str, Any]]:
    """Yields everything that a finished run has computed, by name."""
    for file in sorted((run / "checkpoints").glob("*.ckpt")):
        content = torch.load(file, weights_only=True)
        for key in ("config", "loops", "logged"):  # paths; counters of starts; number of rows
            content.pop(key, None)
        yield from leaves(content, file.name, run)
    yield from leaves(json.loads((run / "metrics.json").read_text()), "metrics.json", run)
    for name in ("csv/metrics.csv", "cases_val.csv"):
        with (run / name).open(newline="") as text:
            rows = [computed(row) for row in csv.DictReader(text)]
        yield from leaves([row for row in rows if row], name, run)


def computed(row: Mapping[str, str]) -> dict[str, str]:
    """The values of a row without times, empty if it has no others.

    The time of an epoch whose last step was saved is lost with the process that was killed.
    """
    values = {k: v for k, v in row.items() if v and not k.startswith("time/")}
    return values if values.keys() - {"epoch", "step"} else {}


def leaves(node: Any, name: str, run: Path) -> Iterator[tuple[str, Any]]:
    """Yields the name and value of every leaf, with files by their name alone."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            text = Path(key).name if str(key).startswith("/") else key
            yield from leaves(value, f"{name}/{text}", run)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from leaves(value, f"{name}/{index}", run)
    elif isinstance(node, str) and node.startswith("/"):
        yield name, Path(node).name if node.endswith(".ckpt") else ""
    else:
        yield name, node


def equal(one: Any, two: Any, exact: bool) -> bool:
    """Whether two leaves are equal, bit for bit or to rounding."""
    if type(one) is not type(two):
        return False
    if isinstance(one, torch.Tensor):
        if exact or not one.is_floating_point():
            return torch.equal(one, two)
        return one.shape == two.shape and torch.allclose(one, two, 0, TOLERANCE)
    if exact:
        both_nan = isinstance(one, float) and math.isnan(one) and math.isnan(two)
        return both_nan or bool(one == two)
    try:
        both = (float(one), float(two))
        return all(map(math.isnan, both)) or math.isclose(*both, abs_tol=TOLERANCE)
    except (TypeError, ValueError):
        return bool(one == two)


def measure(case: str, signals: list[signal.Signals], kills: int, seed: int, output: Path) -> None:
    """Kills until there are enough kills by each signal; appends a line per chain to the output."""
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        reference = finished([*TINY, *CASES[case]], Path(temporary) / "reference")
        for number in signals:
            draw, done = random.Random(f"{case} {number} {seed}"), 0
            while done < kills:
                folder = Path(tempfile.mkdtemp(dir=temporary))
                chain = Chain(case, number, folder)
                follow(chain, kills - done, draw)
                done += len(chain.kills)
                if not chain.problems:
                    different = differences(chain.runs[-1], reference, case != IN_TURN)
                    chain.problems += [f"{len(different)} differ: {different}"] * bool(different)
                line = {"case": case, "signal": number.name, "kills": chain.kills}
                line |= {"problems": chain.problems}
                with output.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(line, flush=True)


def table(output: Path) -> list[str]:
    """Lines of Markdown: kills and chains per case and signal, and in total."""
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    groups: dict[tuple[str, str], list[Any]] = {
        (case, row["signal"]): [] for row in rows for case in (row["case"], "all")
    }
    for row in rows:
        for case in (row["case"], "all"):
            groups[case, row["signal"]].append(row)
    lines = ["| case | signal | kills | trainings | equal |", "|---|---|---|---|---|"]
    for (case, number), own in sorted(
        groups.items(), key=lambda item: (item[0][0] == "all", item[0])
    ):
        count, right = sum(len(row["kills"]) for row in own), sum(not r["problems"] for r in own)
        lines.append(f"| {case} | {number} | {count} | {len(own)} | {right} |")
    return lines


def main(words: list[str]) -> int:
    """Runs the tool; returns the exit code: 1 if anything differed."""
    options = {"kills": "5", "signals": "[KILL,TERM]", "cases": "", "seed": "0"}
    options |= {"output": "kills.jsonl"} | dict(word.split("=", 1) for word in words if "=" in word)
    output = Path(options["output"])
    if "table" not in words:
        for name in LIBRARIES:
            importlib.import_module(name)
        signals = [signal.Signals[f"SIG{name}"] for name in yaml.safe_load(options["signals"])]
        for case in yaml.safe_load(options["cases"] or "null") or CASES:
            measure(case, signals, int(options["kills"]), int(options["seed"]), output)
    print("\n".join(table(output)))
    return int(any(json.loads(line)["problems"] for line in output.read_text().splitlines()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
