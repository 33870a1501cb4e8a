"""A run resumed from any of its checkpoints goes on as if it had not stopped, up to its end."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from densekit.training import Checkpoint, Curves, MetricsFile
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
    [{}, {"val_check_interval": 3}, {"accumulate_grad_batches": 3}, {"precision": "64-true"}],
    ids=["plain", "validation within epochs", "accumulation", "float64"],
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


def test_a_run_with_nothing_left_to_train_saves_what_it_was_given(tmp_path: Path) -> None:
    def last(folder: Path, start: Path | None = None) -> dict[str, Any]:
        saving = Checkpoint(folder / "checkpoints")
        others = [Curves(folder / "curves.png"), MetricsFile(folder / "metrics.json")]
        run = trainer(
            folder,
            callbacks=[*others, saving],
            max_epochs=1,
            log_every_n_steps=3,  # of four steps: one is left for the end
            limit_val_batches=0,
        )
        run.fit(fake_lit(), datamodule=FakeData(), ckpt_path=start, weights_only=True)
        content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        assert (folder / "curves.png").is_file()
        return dict(leaves({key: content[key] for key in content if key != "loops"}))

    first = last(tmp_path / "first")
    again = last(tmp_path / "again", tmp_path / "first" / "checkpoints" / "last.ckpt")
    assert first["callbacks/Curves/count"] == 1
    assert first.keys() == again.keys()
    assert [name for name in first if not same(first[name], again[name])] == []


def leaves(node: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the name and value of every leaf, with files by their name alone."""
    items = enumerate(node) if isinstance(node, list | tuple) else None
    items = node.items() if isinstance(node, dict) else items
    if items is None:
        is_path = isinstance(node, str) and node.startswith("/")
        yield name.removeprefix("/"), Path(node).name if is_path else node
        return
    for key, value in items:
        yield from leaves(value, f"{name}/{Path(str(key)).name}")


def same(one: Any, two: Any) -> bool:
    return torch.equal(one, two) if isinstance(one, Tensor) else bool(one == two)
