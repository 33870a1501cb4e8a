"""Sanity check: a map that stays the same when the weights are random explains no model.

Adebayo et al. 2018, "Sanity checks for saliency maps", section 3.

Shape letters: B images, C channels, S the sizes of an image.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from densekit.explain.faithfulness import blurred
from densekit.explain.subject import Subject
from densekit.inference.engine import without_engine
from densekit.layers import FrozenBatchNorm

MOST_ALIKE = 0.5
"""Largest rank correlation, of either sign, at which a map counts as depending on the weights."""
_SALT = 0x5EED
"""A training may have begun with the same seed, and then with the very same weights."""


def randomised(subject: Subject, seed: int) -> Subject:
    """Returns the same image, predicted by a copy of the model in which all weights are random.

    Modules that can reset their parameters do so; the values of all other parameters are shuffled
    within each tensor. The statistics of normalisations are then measured on the image, or the
    signal of a deep network would vanish on its way and any map would be constant.

    Args:
        subject: Its model is left unchanged.
        seed: Of the weights.
    """
    model = copy.deepcopy(without_engine(subject.model))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed + _SALT)
        for module in model.modules():
            _reset(module)
    random = subject.with_model(model)
    norms = [module for module in model.modules() if hasattr(module, "running_mean")]
    hooks = [norm.register_forward_pre_hook(_measure) for norm in norms]
    images = torch.stack([subject.image, blurred(subject.image)]).to(model.mean.device)
    with torch.no_grad():  # statistics of torch.inference_mode would refuse gradients
        random.inferer.predict(model, random.batch(images))
    subject.advance(len(images))
    for hook in hooks:
        hook.remove()
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


def _measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Sets the running statistics of a normalisation to those of its input (B, C, ...)."""
    mean, var = norm.running_mean, norm.running_var
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        return  # it keeps none
    x = inputs[0].float().transpose(0, 1).flatten(1)  # (C, ...)
    mean.copy_(x.mean(1))
    var.copy_(x.var(1, correction=0).clamp(min=1e-5))
    if isinstance(norm, FrozenBatchNorm):
        norm.fold()
