"""Sanity check: a map that stays the same when the weights are random explains no model.

Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.

Shape letters: S the sizes of an image.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from densekit.inference.engine import without_engine
from densekit.model import DenseModel

MOST_ALIKE = 0.5
"""Largest rank correlation, of either sign, at which a map counts as depending on the weights."""
_SALT = 0x5EED
"""A training may have begun with the same seed, and then with the very same weights."""


def randomised(model: DenseModel, seed: int) -> DenseModel:
    """Returns a copy of a model in which all weights are random.

    Modules that can reset their parameters do so, with running statistics; the values of all other
    parameters are shuffled within each tensor.

    Args:
        model: Left unchanged.
        seed: Of the weights.
    """
    random = copy.deepcopy(without_engine(model))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed + _SALT)
        for module in random.modules():
            _reset(module)
    return random


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Returns Spearman's rank correlation of a map (*S) with another.

    It is 0 if the other one is constant, and NaN if the map itself is: that one explains nothing.
    """
    a, b = one.flatten().double().numpy(), other.flatten().double().numpy()
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan if np.ptp(a) == 0 else 0.0
    return float(spearmanr(a, b).statistic)


def _reset(module: nn.Module) -> None:
    reset = getattr(module, "reset_parameters", None)
    if callable(reset):
        reset()
        return
    for parameter in module.parameters(recurse=False):
        shuffled = parameter.flatten()[torch.randperm(parameter.numel())]
        parameter.copy_(shuffled.view_as(parameter))
