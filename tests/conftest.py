"""What every test gets: one thread, a fixed seed, and the real data where they are present."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.browser import browser, chromium  # noqa: F401 fixtures of every test

PROJECT = Path(__file__).resolve().parent.parent

# The suite runs one worker a core (`-n auto`): more threads than one each would only fight.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Matplotlib must never look for a display.
os.environ.setdefault("MPLBACKEND", "Agg")
# In the background, or under nohup, a process is started to ignore signals that tests send.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no worker ends with one while the other is done."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Removes handlers that a library gave the root logger while another test was captured.

    Their stream was closed with that test: each message would write a traceback beside itself.
    """
    for handler in logging.root.handlers[:]:
        if getattr(getattr(handler, "stream", None), "closed", False):
            logging.root.removeHandler(handler)


def pytest_collection_finish() -> None:
    """Every later collection of garbage skips the millions of objects of what is imported.

    Collections are rarer too: tracing a network makes many objects and little garbage.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_unconfigure() -> None:
    """What the interpreter frees at its end is no leak."""
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same global random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _compiles_anew() -> Iterator[None]:
    """What a test compiled is forgotten: other shapes would be traced as symbols, in minutes."""
    yield
    tracing = sys.modules.get("torch._dynamo.convert_frame")
    if tracing is not None and tracing.input_codes.seen:
        torch.compiler.reset()


@pytest.fixture(scope="session", autouse=True)
def _float32() -> Iterator[None]:
    """`precision=auto` is float32, whatever this processor is fast at: runs are the same on all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("densekit.training.devices.cpu_gains_from_bf16", lambda: False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Marks of files that were read lie in a folder of the session, not in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        memory = tmp_path_factory.mktemp("read") / "marks"
        patch.setattr("densekit.data.reading.file_check._marks_file", lambda folder: memory)
        yield


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Folder of the real data sets (`DENSEKIT_TEST_DATA`), or a skip that says where it looked."""
    root = Path(os.environ.get("DENSEKIT_TEST_DATA", PROJECT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"real data not found at {root}: set DENSEKIT_TEST_DATA to their folder")
    return root


@pytest.fixture
def folder(data_root: Path) -> Callable[[str], Path]:
    """Finds one real data set by its name, or skips with the folder that is absent."""

    def find(name: str) -> Path:
        path = data_root / name
        if not path.is_dir():
            pytest.skip(f"{path} is absent")
        return path

    return find
