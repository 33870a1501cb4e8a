"""Reads files in other processes: a file that ends its process is named, the others are read."""

from __future__ import annotations

import logging
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Generic, TypeVar

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

AHEAD = 4
"""Files that a process is given before it has answered, so that it never waits."""
SPAWN = multiprocessing.get_context("spawn")
"""How processes are started; forking is unsafe beside torch's threads."""


@dataclass(frozen=True)
class Unread:
    """Why a file could not be read at all, which may be otherwise the next time.

    Attributes:
        reason: What happened to the process.
    """

    reason: str


def read_all(
    read: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int
) -> Iterator[tuple[_Task, _Result | Unread]]:
    """Reads files in processes, in any order.

    A file at which a process ends is tried once more after the others, alone: that memory ran out
    need not be its fault.

    Args:
        read: Reads one file; a function of a module.
        tasks: The files.
        workers: Number of processes; 0 reads in this one.
    """
    if not workers:
        yield from ((task, read(task)) for task in tasks)
        return
    again = []
    for task, result in _once(read, tasks, workers):
        if isinstance(result, Unread):
            again.append(task)
        else:
            yield task, result
    for task in again:
        yield from _once(read, [task], 1)


class _Reader(Generic[_Task, _Result]):
    """A process and the files that it has not answered yet, in order.

    Args:
        read: Reads one file.
    """

    def __init__(self, read: Callable[[_Task], _Result]) -> None:
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_serve, args=(read, theirs), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process ends the pipe
        self.due = deque[_Task]()

    def give(self, tasks: deque[_Task]) -> None:
        """Takes over files until enough are due."""
        while tasks and len(self.due) < AHEAD:
            self.due.append(tasks.popleft())
            try:
                self.pipe.send(self.due[-1])
            except OSError:  # it has ended, which the next answer shows
                return

    def answer(self) -> tuple[_Task, _Result | Unread]:
        """The next result; waits for it."""
        try:
            result = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            result = Unread(_cause(self.process.exitcode or 0))
        return self.due.popleft(), result

    def close(self) -> None:
        """Ends the process."""
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def _once(
    read: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int
) -> Iterator[tuple[_Task, _Result | Unread]]:
    left = deque(tasks)
    readers: list[_Reader[_Task, _Result]] = []
    try:
        while left or any(reader.due for reader in readers):
            while left and len(readers) < workers:
                readers.append(_Reader(read))
            for reader in readers:
                reader.give(left)
            ready = wait([reader.pipe for reader in readers if reader.due])
            for reader in [reader for reader in readers if reader.pipe in ready]:
                task, result = reader.answer()
                if isinstance(result, Unread) and not reader.process.is_alive():
                    left.extendleft(reversed(reader.due))
                    readers.remove(reader)
                    reader.close()
                yield task, result
    finally:
        for reader in readers:
            reader.close()


def _serve(read: Callable[[_Task], _Result], pipe: Connection) -> None:
    """Answers until the other end is closed, which the end of the caller does too."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the caller to handle
    cv2.setNumThreads(1)
    logging.disable(logging.WARNING)
    try:
        while True:
            pipe.send(read(pipe.recv()))
    except (EOFError, OSError):
        return


def _cause(code: int) -> str:
    """What an exit code says."""
    if code >= 0:
        return f"reading it ended the process with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ", perhaps for want of memory" if -code == signal.SIGKILL else ""
    return f"reading it ended the process by {name}{hint}"
