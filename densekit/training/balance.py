"""Combines the losses of several heads into one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from densekit._names import check_keys


class FixedBalance(nn.Module):
    """Sums the losses of the heads, each times a fixed factor.

    Args:
        heads: Names of the model's heads.
        weights: Head name to factor, 1 by default.

    Raises:
        ValueError: `weights` names an unknown head.
    """

    def __init__(self, heads: Iterable[str], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        known = list(heads)
        check_keys("training.balance.weights", weights or {}, known)
        self.weights = dict(weights or {})

    def forward(self, sums: Mapping[str, Tensor]) -> Tensor:
        """The loss, (), from each head's sum of terms, ()."""
        return torch.stack([self.weights.get(head, 1.0) * sums[head] for head in sums]).sum()


class UncertaintyBalance(nn.Module):
    """Sums the losses of the heads, each times a learned factor exp(-s), plus s / 2.

    Kendall, Gal and Cipolla 2018, Multi-Task Learning Using Uncertainty, section 3.2, equation 10,
    with s the log-variance of a head, initially 0 (equal weights); s / 2 keeps it bounded.

    Args:
        heads: Names of the model's heads; every step needs a loss of each.
    """

    def __init__(self, heads: Iterable[str]) -> None:
        super().__init__()
        self.log_variance = nn.ParameterDict({head: torch.zeros(1) for head in heads})

    def forward(self, sums: Mapping[str, Tensor]) -> Tensor:
        """The loss, (), from each head's sum of terms, ()."""
        terms = []
        for head, loss in sums.items():
            (log_variance,) = self.log_variance[head]
            terms.append(torch.exp(-log_variance) * loss + log_variance / 2)
        return torch.stack(terms).sum()


def sums_by_head(terms: Mapping[str, Tensor], sources: int = 1) -> dict[str, Tensor]:
    """Sums the loss terms of each head, (), over all data sets.

    Args:
        terms: Named `HEAD/TERM`, or `SOURCE/HEAD/TERM` with several data sets; TERM may contain
            slashes.
        sources: Number of data sets.
    """
    sums: dict[str, Tensor] = {}
    for name, term in terms.items():
        head = name.split("/")[1 if sources > 1 else 0]
        sums[head] = sums[head] + term if head in sums else term
    return sums
