"""Random numbers are functions of integers, and look random."""

from __future__ import annotations

import torch

from densekit.ops.hash import mix, uniform

MASK = (1 << 64) - 1


def splitmix(*keys: int) -> int:
    """The same mixer in Python's own integers."""
    state = 0
    for key in keys:
        state = (((state ^ (key & MASK)) * 0xBF58476D1CE4E5B9) + 0x9E3779B97F4A7C15) & MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
        state ^= state >> 31
    return state - (1 << 64) if state >> 63 else state


def test_equals_exact_integer_arithmetic() -> None:
    keys = [0, 1, -1, 2**62, -(2**63), 123456789]
    found = mix(torch.tensor(keys), 7)
    assert found.tolist() == [splitmix(key, 7) for key in keys]


def test_broadcasts_elementwise() -> None:
    a, b = torch.arange(3), torch.arange(4)
    table = mix(a[:, None], b)
    assert table.shape == (3, 4)
    assert table[2, 1] == mix(2, 1) == mix(torch.tensor(2), 1)


def test_order_of_keys_matters() -> None:
    assert mix(1, 2) != mix(2, 1)


def test_draws_do_not_depend_on_the_batch_or_their_number() -> None:
    keys = torch.tensor([5, 9, 5])
    many = uniform(keys, 100)
    assert torch.equal(many[0], many[2])
    assert torch.equal(many[:, :10], uniform(keys, 10))
    assert torch.equal(many[1:2], uniform(keys[1:2], 100))


def test_draws_are_uniform_and_uncorrelated() -> None:
    draws = uniform(torch.arange(200), 500)
    assert draws.dtype == torch.float32
    assert 0 <= draws.min() < draws.max() < 1
    share = torch.histc(draws, 10, 0, 1) / draws.numel()
    torch.testing.assert_close(share, torch.full((10,), 0.1), atol=0.005, rtol=0)
    assert torch.corrcoef(draws).fill_diagonal_(0).abs().max() < 0.25  # five standard errors
    assert len(draws.unique()) > 0.99 * draws.numel()
