from __future__ import annotations

import subprocess
import sys

import pytest

from densekit._malloc import is_chosen

PAGES = """
import resource
from densekit._malloc import kept_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        blocks = [bytearray(size * 2**20) for size in (1, 8, 24, 48)]  # written, hence resident
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

pages()
print(pages())
with kept_memory():
    pages()
    print(pages())
pages()
print(pages())
with kept_memory("cuda"):
    pages()
    print(pages())
"""
FOUR_TIMES_48_MIB = 4 * 48 * 2**20 // 4096


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_freed_memory_is_kept_and_then_returned_as_before() -> None:
    found = _pages({})
    default, kept, after, on_gpu = found
    assert kept < FOUR_TIMES_48_MIB // 100
    assert min(default, after, on_gpu) > FOUR_TIMES_48_MIB
    assert abs(after - default) < FOUR_TIMES_48_MIB // 10


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_what_the_environment_chooses_stays() -> None:
    default, kept, *_ = _pages({"MALLOC_TRIM_THRESHOLD_": "65536"})
    assert min(default, kept) > FOUR_TIMES_48_MIB


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ({}, False),
        ({"MALLOC_PERTURB_": "3"}, False),
        ({"MALLOC_MMAP_MAX_": "0"}, True),
        ({"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F"}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}, True),
    ],
)
def test_what_chooses(environment: dict[str, str], chosen: bool) -> None:
    assert is_chosen(environment) == chosen


def _pages(environment: dict[str, str]) -> list[int]:
    """How many pages the system gave, in turn: by default, kept, after it, and on a GPU."""
    run = subprocess.run(
        [sys.executable, "-c", PAGES], env=environment, capture_output=True, text=True, check=True
    )
    return [int(line) for line in run.stdout.split()]
