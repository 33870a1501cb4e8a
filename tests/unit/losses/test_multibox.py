"""Hard negatives: how many, which, and their gradients."""

from __future__ import annotations

import torch

from densekit.losses.multibox import mined


def test_by_hand() -> None:
    loss = torch.tensor(
        [
            [0.5, 9, 1, 7, 3, 2],  # one positive: its two hardest negatives
            [0.5, 9, 1, 7, 3, 2],  # no positive: no negative
            [0.5, 9, 1, 7, 3, 2],  # three positives, but two negatives: both
        ],
        requires_grad=True,
    )
    positive = torch.tensor([[1, 0, 0, 0, 0, 0], [0] * 6, [1, 1, 1, 0, 0, 0]]).bool()
    negative = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]]).bool()

    found = mined(loss, positive, negative, 2)
    found.sum().backward()

    assert found.tolist() == [0.5 + 7 + 3, 0, 10.5 + 3 + 2]
    expected = [[1, 0, 0, 1, 1, 0], [0] * 6, [1, 1, 1, 0, 1, 1]]
    assert loss.grad is not None
    assert loss.grad.tolist() == expected
