"""Losses of several heads: weighed as told, or by factors that are learnt."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from densekit.training import FixedBalance, UncertaintyBalance
from densekit.training.balance import sums_by_head
from tests.unit.training.fakes import FakeData, FakeModel, FakeSource, fake_lit, trainer

HEADS = ("spot", "blob")


def test_terms_are_summed_by_head_over_data_sets() -> None:
    terms = {"blob/spot/box": torch.tensor(1.0), "b/spot/box": torch.tensor(2.0)}
    sums = sums_by_head({**terms, "b/blob/deep/x": torch.tensor(4.0)}, sources=2)
    assert {head: float(value) for head, value in sums.items()} == {"spot": 3.0, "blob": 4.0}
    assert list(sums_by_head({"spot/deep/x": torch.tensor(1.0)})) == ["spot"]


def test_fixed_weights() -> None:
    balance = FixedBalance(HEADS, {"blob": 0.25})
    assert float(balance({"spot": torch.tensor(3.0), "blob": torch.tensor(4.0)})) == 4.0
    with pytest.raises(ValueError, match="blob"):
        FixedBalance(HEADS, {"blub": 1.0})


def test_uncertainty_settles_where_the_paper_says() -> None:
    """At its minimum over s, exp(-s) L + s / 2 has s = log(2 L)."""
    balance = UncertaintyBalance(HEADS)
    losses = {"spot": torch.tensor(8.0), "blob": torch.tensor(0.02)}
    optimizer = torch.optim.Adam(balance.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        balance(losses).backward()
        optimizer.step()
    for head, loss in losses.items():
        torch.testing.assert_close(
            balance.log_variance[head].detach()[0], (2 * loss).log(), rtol=0.01, atol=0.01
        )


def test_learnt_factors_train_and_are_saved_beside_the_model(tmp_path: Path) -> None:
    lit = fake_lit(FakeModel(heads=HEADS), balance=UncertaintyBalance)
    trainer(tmp_path, max_epochs=1).fit(lit, datamodule=FakeData({"toy": FakeSource(heads=HEADS)}))
    moved = [float(value.detach()) for value in lit.balance.parameters()]
    assert all(value != 0 for value in moved)
    assert {k for k in lit.state_dict() if not k.startswith("model.")} == {
        f"balance.log_variance.{head}" for head in HEADS
    }


def test_weight_of_zero_leaves_a_head_where_it_is(tmp_path: Path) -> None:
    model = FakeModel(heads=HEADS)
    before = model.heads["blob"].box.weight.detach().clone()
    plain_sgd = partial(torch.optim.SGD, lr=0.1)
    lit = fake_lit(model, plain_sgd, balance=partial(FixedBalance, weights={"blob": 0.0}))
    trainer(tmp_path, max_epochs=1).fit(lit, datamodule=FakeData({"toy": FakeSource(heads=HEADS)}))
    assert torch.equal(model.heads["blob"].box.weight, before)
    assert not torch.equal(model.heads["spot"].box.weight, before)
