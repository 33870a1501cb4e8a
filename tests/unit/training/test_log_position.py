"""A run resumed from any of its checkpoints logs the rows that follow it: none twice, none lost."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from densekit.training import Checkpoint
from tests.unit.training.fakes import FakeData, FakeModel, fake_lit, trainer


class Copying(Checkpoint):
    """Keeps a copy of every `last.ckpt`."""

    def _save_last(self, trainer: L.Trainer) -> None:
        super()._save_last(trainer)
        file = Path(self.last_model_path)
        shutil.copyfile(file, file.with_name(f"{len(list(file.parent.iterdir())):02d}.copy"))


def fit(folder: Path, start: Path | None = None, **settings: Any) -> dict[str, Tensor]:
    torch.manual_seed(3)
    lit = fake_lit(FakeModel(dropout=0.2))
    run = trainer(
        folder,
        callbacks=[Copying(folder / "checkpoints", last_every_n_steps=1)],
        logger=CSVLogger(folder, "csv", version=""),
        max_epochs=2,
        enable_checkpointing=True,
        **settings,
    )
    run.fit(lit, datamodule=FakeData(), ckpt_path=start, weights_only=True)
    return lit.state_dict()


def logged(folder: Path) -> list[dict[str, str]]:
    file = folder / "csv" / "metrics.csv"
    if not file.is_file():
        return []
    with file.open(newline="") as text:
        return [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(text)]


@pytest.mark.parametrize(
    "settings",
    [{}, {"val_check_interval": 3}, {"accumulate_grad_batches": 3}],
    ids=["plain", "validation within epochs", "accumulation"],
)
def test_rows_continue_after_every_checkpoint(tmp_path: Path, settings: dict[str, Any]) -> None:
    weights = fit(tmp_path / "straight", **settings)
    rows = logged(tmp_path / "straight")
    copies = sorted((tmp_path / "straight" / "checkpoints").glob("*.copy"))
    assert len(copies) >= 4
    for copy in copies:
        resumed = fit(tmp_path / copy.stem, copy, **settings)
        before = torch.load(copy, weights_only=True)["logged"]["rows"]
        assert rows[:before] + logged(tmp_path / copy.stem) == rows, copy.stem
        assert all(torch.equal(resumed[name], weights[name]) for name in weights), copy.stem
