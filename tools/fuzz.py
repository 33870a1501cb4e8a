"""Reads thousands of damaged files of every format: only errors that name the file may come out.

Each input is a valid file with one to three changes. It is read in a child process with a limit of
memory and of time. Reported are errors that densekit does not raise itself or that do not name the
file, inputs that hang or kill the process, and damage that is read as something else in formats
that have checksums.

    python tools/fuzz.py n=200 seed=0 formats=coco_boxes,png keep=/tmp/found
"""

from __future__ import annotations

import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from fuzzing.changes import BYTES, TEXT  # noqa: E402
from fuzzing.form import Format  # noqa: E402
from fuzzing.formats import FORMATS  # noqa: E402

MEMORY = 3 << 30
SECONDS = 20.0


@dataclass(frozen=True)
class Outcome:
    """What reading one input led to.

    Attributes:
        kind: "read", "refused", or a fault: "foreign", "unnamed", "other", "hang", "killed".
        detail: The message, or what is wrong.
    """

    kind: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether densekit should have done something else."""
        return self.kind not in ("read", "refused")


def damaged(content: bytes, is_text: bool, chosen: random.Random) -> tuple[bytes, str]:
    """The content with one to three changes, and their names."""
    names = []
    for _ in range(chosen.choice((1, 1, 1, 2, 3))):
        change = chosen.choice(TEXT if is_text else BYTES)
        content = change(content, chosen)
        names.append(change.__name__)
    return content, "+".join(names)


def outcome(form: Format, folder: Path, file: Path, before: Any) -> Outcome:
    """Reads a data set whose file was changed."""
    from densekit.app.errors import explain

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = form.read(folder)
    except Exception as error:
        message = explain(error)
        if message is None:
            last = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(last.filename).name}:{last.lineno}"
            return Outcome("foreign", f"{type(error).__name__} in {where}: {str(error)[:300]}")
        named = not form.is_named or any(str(p) in message for p in (file, file.parent))
        return Outcome("refused" if named else "unnamed", message[:300])
    if form.is_exact and not _equal(found, before):
        return Outcome("other", "read as something else")
    return Outcome("read")


def _equal(a: Any, b: Any) -> bool:
    import numpy as np
    import torch

    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))
    return _equal(vars(a), vars(b)) if hasattr(a, "__dict__") else bool(a == b)


def run(name: str, seed: int, number: int) -> tuple[Outcome, str, Path | None, bytes]:
    """Makes and reads one input; returns its outcome, its changes and the changed file."""
    form, chosen = FORMATS[name], random.Random(f"{name} {seed} {number}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        folder = Path(made)
        file = form.write(folder)
        before = form.read(folder) if form.is_exact else None
        content, changes = damaged(file.read_bytes(), form.is_text, chosen)
        file.write_bytes(content)
        return outcome(form, folder, file, before), changes, file, content


def _work(name: str, seed: int, numbers: Iterable[int], pipe: Connection, keep: str | None) -> None:
    """Sends the outcome of each input; the first, unchanged one only imports what is needed."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as made:
        FORMATS[name].write(Path(made))
        FORMATS[name].read(Path(made))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    for number in numbers:
        pipe.send(None)
        found, changes, file, content = run(name, seed, number)
        if found.is_fault and keep is not None and file is not None:
            Path(keep).mkdir(parents=True, exist_ok=True)
            Path(keep, f"{name}-{seed}-{number}{file.suffix}").write_bytes(content)
        pipe.send((found, changes))


def outcomes(
    name: str, count: int, seed: int, keep: str | None = None
) -> Iterator[tuple[int, str, Outcome]]:
    """Yields (number, changes, outcome) of each input, read in child processes with limits."""
    number = 0
    while number < count:
        pipe, end = Pipe()
        child = Process(target=_work, args=(name, seed, range(number, count), end, keep))
        child.start()
        end.close()
        limit = 120.0  # to import what is needed
        try:
            while number < count:
                started = _seconds(child)
                while not (arrived := pipe.poll(1)) and _seconds(child) - started < limit:
                    pass
                if not arrived:
                    yield number, "", Outcome("hang", f"more than {limit} s")
                    break
                if (received := pipe.recv()) is not None:
                    yield number, received[1], received[0]
                    number += 1
                limit = SECONDS
        except EOFError:
            child.join()
            yield number, "", Outcome("killed", f"exit code {child.exitcode}")
        number += 1
        child.kill()
        child.join()


def _seconds(child: Process) -> float:
    """Time that a process has computed, or a twentieth of the time that it has waited."""
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    computed = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return max(computed, time.monotonic() / 20)


def main(argv: list[str]) -> int:
    """Prints one row per format and every fault; returns 1 if there is one."""
    options = dict(word.split("=", 1) for word in argv)
    names = options["formats"].split(",") if "formats" in options else list(FORMATS)
    count, seed = int(options.get("n", 100)), int(options.get("seed", 0))
    faults = 0
    for name in names:
        counts: Counter[str] = Counter()
        for number, changes, found in outcomes(name, count, seed, options.get("keep")):
            counts[found.kind] += 1
            faults += found.is_fault
            if found.is_fault:
                print(f"{found.kind}: {name} {number} {changes}: {found.detail}", flush=True)
        print(f"{name:20} {dict(counts)}", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
