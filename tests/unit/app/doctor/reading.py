"""How files are read in the tests of processes; light, because every process imports it."""

import os
import signal
from pathlib import Path


def read(task):
    """The task in capital letters; some end their process, some the first time only."""
    if task == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task.startswith("once") and not (once := Path(task[5:])).exists():
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task.upper()
