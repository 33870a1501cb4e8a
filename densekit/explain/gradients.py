"""Methods that need gradients, by captum: Grad-CAM, LayerCAM and integrated gradients.

Shape letters: N images, C channels, S the sizes of an image, s those of a level.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from densekit._extras import need
from densekit._names import unknown
from densekit.explain.settings import Settings
from densekit.explain.subject import Subject
from densekit.explain.target import Target
from densekit.heads.base import Head
from densekit.ops.interpolation import resize_linear


def gradcam(subject: Subject, target: Target, settings: Settings) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017): channels weighted by their mean gradient, then a ReLU.

    For a class of a segmentation it is Seg-Grad-CAM (Vinogradova et al. 2020).

    Returns:
        (*S), at least 0; the mean over the levels.
    """
    captum = need("captum.attr", "method=gradcam", "explain")
    tapped = _tapped(subject, target, settings)
    maps = []
    for tap in tapped.taps.values():
        cam = captum.LayerGradCam(tapped, tap).attribute(_input(subject), relu_attributions=True)
        maps.append(cam[0].detach())
        subject.advance(1)
    return _joined(maps, subject.sides)


def layercam(subject: Subject, target: Target, settings: Settings) -> Tensor:
    """LayerCAM (Jiang et al. 2021): each activation weighted by its own positive gradient.

    Of levels with negative activations, such as those of a pyramid, the positive products of
    activation and gradient are taken.

    Returns:
        (*S), at least 0; the mean over the levels.
    """
    captum = need("captum.attr", "method=layercam", "explain")
    tapped = _tapped(subject, target, settings)
    taps = list(tapped.taps.values())
    products = captum.LayerGradientXActivation(tapped, taps).attribute(_input(subject))
    subject.advance(1)
    maps = [product.detach().clamp(min=0).sum(1)[0][None] for product in products]
    return _joined(maps, subject.sides)


def integrated_gradients(subject: Subject, target: Target, settings: Settings) -> Tensor:
    """Integrated gradients (Sundararajan et al. 2017) from the mean of the training data.

    Returns:
        (*S), the sum over the channels; positive where a pixel speaks for the target. It sums to
        the difference between the image and the baseline up to the error of the steps.
    """
    captum = need("captum.attr", "method=integrated_gradients", "explain")
    image = _input(subject)
    found: Tensor = captum.IntegratedGradients(Tapped(subject, target, ())).attribute(
        image,
        baselines=subject.fill.expand_as(subject.image)[None].to(image),
        n_steps=settings.steps,
        internal_batch_size=subject.batch_size,
    )
    subject.advance(settings.steps)
    return found.detach()[0].sum(0).cpu()


class Tapped(nn.Module):
    """A model that returns the number to explain, and lets captum see levels of the pyramid.

    Args:
        subject: Its model, not the engine, is run.
        target: What is explained.
        levels: The levels to see.

    Attributes:
        taps: Level to the module through which it passes.
    """

    def __init__(self, subject: Subject, target: Target, levels: Sequence[str]) -> None:
        super().__init__()
        self.subject, self.target = subject, target
        self.taps = nn.ModuleDict({level: nn.Identity() for level in levels})

    def forward(self, images: Tensor) -> Tensor:
        """Returns the target's number for images (N, C, *S), (N,)."""
        batch = self.subject.batch(images)
        model = self.subject.model
        features = model.features(batch)
        for level, tap in self.taps.items():
            features[level] = tap(features[level])
        head = model.heads[self.subject.head]
        outputs = head(features, batch["size"])
        number = self.target.differentiable(outputs, head.decode(outputs, batch["size"]))
        # a level without influence gets a gradient of zero, not none
        return number + 0 * sum(features[level].sum() for level in self.taps)


def check_levels(head: Head, chosen: Sequence[str]) -> None:
    """Refuses levels that a head does not read.

    Raises:
        ValueError: Names the first one.
    """
    for level in chosen:
        if level not in _maps(head):
            raise ValueError(unknown("levels", level, _maps(head)))


def levels_of(subject: Subject, target: Target, chosen: Sequence[str]) -> list[str]:
    """Returns the levels that a class activation map is made of.

    Args:
        subject: Names the head.
        target: What is explained.
        chosen: By the user; otherwise all levels that the head reads for a local target (those
            without influence on it have a gradient of zero), and the deepest one else.
    """
    model = subject.model
    reads = _maps(model.heads[subject.head])
    if chosen or target.is_local or not reads:
        return list(chosen or reads)
    specs = {**model.backbone.features, **({} if model.neck is None else model.neck.specs)}
    return [max(reads, key=lambda level: prod(specs[level].stride))]


def _maps(head: Head) -> list[str]:
    """The levels that a head reads, but for the image itself."""
    return [level for level in head.reads if level != "c0"]


def _tapped(subject: Subject, target: Target, settings: Settings) -> Tapped:
    levels = levels_of(subject, target, settings.levels)
    if not levels:
        raise ValueError(
            f"method: expected integrated_gradients or rise for heads.{subject.head}, which reads"
            " no level of features, got a class activation map"
        )
    return Tapped(subject, target, levels)


def _input(subject: Subject) -> Tensor:
    """(1, C, *S) that gradients flow to."""
    image = subject.image[None].to(subject.model.mean.device)
    return image.detach().clone().requires_grad_()


def _joined(maps: Sequence[Tensor], sides: Sequence[int]) -> Tensor:
    """The mean of maps (1, *s) of levels, enlarged to the image, (*S)."""
    enlarged = [resize_linear(one[None].float(), sides)[0, 0] for one in maps]
    return torch.stack(enlarged).mean(0).cpu()
