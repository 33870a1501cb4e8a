"""A logger that fails: it is named once and dropped, and the training goes on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger, Logger

from densekit.training.guarded_logger import guarded
from tests.unit.training.fakes import FakeData, fake_lit, trainer


class Broken(CSVLogger):
    """Fails in one method from its n-th call on."""

    def __init__(self, folder: Path, method: str, at: int) -> None:
        super().__init__(folder)
        self.method, self.left, self.calls = method, at, 0

    def _count(self, method: str) -> None:
        if method == self.method:
            self.calls += 1
            self.left -= 1
            if self.left <= 0:
                raise ConnectionError("no route to the server\nand much more")

    @property
    def experiment(self) -> Any:
        self._count("experiment")
        return super().experiment

    def log_metrics(self, *arguments: Any, **settings: Any) -> None:
        self._count("log_metrics")
        super().log_metrics(*arguments, **settings)

    def save(self) -> None:
        self._count("save")
        super().save()

    def finalize(self, status: str) -> None:
        self._count("finalize")
        super().finalize(status)


@pytest.mark.parametrize(
    ("method", "at"),
    [("experiment", 1), ("log_metrics", 1), ("log_metrics", 3), ("save", 1), ("finalize", 1)],
)
def test_it_is_dropped_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, method: str, at: int
) -> None:
    broken = guarded(Broken(tmp_path / "broken", method, at))
    whole = guarded(CSVLogger(tmp_path / "whole", name="", version=""))
    assert isinstance(broken, Broken)
    run = trainer(tmp_path, logger=[broken, whole], max_epochs=2)
    with caplog.at_level(logging.WARNING):
        run.fit(fake_lit(), datamodule=FakeData())
    assert run.global_step == 8
    said = [r.getMessage() for r in caplog.records if "turned off" in r.getMessage()]
    assert said == [
        "logger: Broken failed and is turned off, the run continues without it: ConnectionError: no"
        " route to the server"
    ]
    assert broken.calls == at
    assert len((tmp_path / "whole" / "metrics.csv").read_text().splitlines()) > 8


def test_one_that_works_does_all_it_did(tmp_path: Path) -> None:
    logger: Logger = guarded(CSVLogger(tmp_path, name="", version=""))
    logger.log_metrics({"a": 1.0}, step=3)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["a,step", "1.0,3"]


def test_interrupts_are_no_errors_of_a_logger(tmp_path: Path) -> None:
    class Interrupted(CSVLogger):
        def save(self) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(Interrupted(tmp_path)).save()
