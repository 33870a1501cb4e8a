"""Drawn rows of a table step as the whole table would, and the others stand still."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from densekit.losses import PartialFC
from densekit.ops.sharding import DrawnRows
from densekit.training import Checkpoint
from densekit.training.row_swap import RowSwap
from tests.unit.training.faces import face_data, face_lit, face_model
from tests.unit.training.fakes import trainer

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01),
    "plain": partial(torch.optim.SGD, lr=0.1),
    "adamw": partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1),
    "fused": partial(torch.optim.AdamW, lr=0.1, weight_decay=0.1, fused=True),
}
ROWS, SIZE = 6, 3


def step(optimizer, swap, table, rows, other):
    values = table.detach()[rows].requires_grad_()
    optimizer.zero_grad()
    (values.square().sum() + values.sum() + other.sum()).backward()
    swap.swap_in([DrawnRows(table, rows, values)])
    assert table.grad is None
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_rows_step_as_a_parameter_of_their_own_would(name):
    table, other = nn.Parameter(torch.randn(ROWS, SIZE)), nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS[name]([{"params": [other, table]}])
    swap = RowSwap(optimizer)
    alone = nn.Parameter(table.detach()[[1, 4]].clone())
    reference = OPTIMIZERS[name]([alone])
    before = table.detach().clone()
    for _ in range(4):
        step(optimizer, swap, table, torch.tensor([1, 4]), other)
        reference.zero_grad()
        (alone.square().sum() + alone.sum()).backward()
        reference.step()
    torch.testing.assert_close(table[[1, 4]], alone)
    still = [0, 2, 3, 5]
    assert torch.equal(table[still], before[still])
    assert optimizer.param_groups[0]["params"][1] is table
    assert set(optimizer.state) <= {table, other}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_rows_waits_until_they_are_drawn_again(name):
    table, other = nn.Parameter(torch.randn(ROWS, SIZE)), nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS[name]([{"params": [other, table]}])
    swap = RowSwap(optimizer)
    step(optimizer, swap, table, torch.tensor([0, 1]), other)
    of_table = {k: v.clone() for k, v in optimizer.state[table].items() if v is not None}
    step(optimizer, swap, table, torch.tensor([1, 2]), other)
    for key, value in of_table.items():
        after = optimizer.state[table][key]
        if value.shape == table.shape:
            assert torch.equal(after[0], value[0])
            assert not torch.equal(after[1], value[1])
            assert torch.equal(after[3], torch.zeros(SIZE))


def test_a_skipped_step_leaves_the_table_in_its_place():
    table, other = nn.Parameter(torch.randn(ROWS, SIZE)), nn.Parameter(torch.ones(2))
    optimizer = OPTIMIZERS["sgd"]([{"params": [other, table]}])
    swap = RowSwap(optimizer)
    before = table.detach().clone()
    swap.swap_in([DrawnRows(table, torch.tensor([2]), table.detach()[[2]].requires_grad_())])
    assert optimizer.param_groups[0]["params"][1] is not table
    swap.put_back()
    assert optimizer.param_groups[0]["params"][1] is table
    assert torch.equal(table, before)


def run(folder, steps, resume=None, clip=None, optimizer="sgd"):
    lit = face_lit(face_model(partial(PartialFC, rate=0.5)), OPTIMIZERS[optimizer])
    fit = trainer(
        folder,
        max_steps=steps,
        limit_val_batches=0,
        gradient_clip_val=clip,
        callbacks=[Checkpoint(folder, last_every_n_steps=3)],
    )
    fit.fit(lit, datamodule=face_data(), ckpt_path=resume, weights_only=True)
    return lit


def test_a_sampled_training_resumes_bit_equal(tmp_path):
    straight = run(tmp_path / "a", 7).state_dict()
    run(tmp_path / "b", 3)
    resumed = run(tmp_path / "c", 7, tmp_path / "b" / "last.ckpt").state_dict()
    assert [name for name in straight if not torch.equal(straight[name], resumed[name])] == []


def test_drawn_rows_count_in_the_clipping_norm(tmp_path):
    start = face_model(partial(PartialFC, rate=0.5)).state_dict()
    moved = run(tmp_path, 1, clip=1e-3, optimizer="plain").model.state_dict()
    squares = {name: (moved[name] - start[name]).square().sum() for name in start}
    assert squares["heads.identity.classifier.centres"] > 0
    length = torch.stack(list(squares.values())).sum().sqrt()
    torch.testing.assert_close(length, torch.tensor(0.1 * 1e-3).double(), rtol=1e-2, atol=0)


def test_accumulation_is_refused(tmp_path):
    lit = face_lit(face_model(partial(PartialFC, rate=0.5)))
    fit = trainer(tmp_path, max_steps=2, accumulate_grad_batches=2, limit_val_batches=0)
    with pytest.raises(
        ValueError, match="accumulate_grad_batches: expected 1, since every batch draws"
    ):
        fit.fit(lit, datamodule=face_data())
