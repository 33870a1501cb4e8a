"""Names of metrics in MLflow, which are files, folders and few characters to it."""

from __future__ import annotations

import re
from itertools import permutations

from densekit.training.loggers import LONGEST, mlflow_name

NAMES = [
    *("val/loss", "val/classification/loss/ce", "val/classification/loss"),
    *("val/classification/accuracy", "val/classification/accuracy/disc"),
    *("val/a/classification/accuracy", "val/a/classification/accuracy/disc", "val/a/loss"),
    *(f"val/x/AP/{name}" for name in ("é", "猫", "犬", "(a)", "[a]", "a, b", "..", "a/b", "100 %")),
    *(f"val/x/AP/{'long ' * 60}{end}" for end in "ab"),
    *("epoch", "lr-SGD/pg1", "lr-SGD/pg2"),
]


def test_no_name_is_the_folder_of_another_and_none_is_lost() -> None:
    written = [mlflow_name(name) for name in NAMES]
    assert len(set(written)) == len(NAMES)
    for one, other in permutations(written, 2):
        assert not other.startswith(f"{one}/")


def test_mlflow_takes_every_name() -> None:
    for name in map(mlflow_name, NAMES):
        assert re.fullmatch(r"[a-zA-Z0-9_/. -]+", name)
        assert len(name) <= LONGEST
    assert mlflow_name("val/x/AP/cat") == "val/x.AP.cat"
