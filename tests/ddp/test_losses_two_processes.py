"""Losses of a batch split over two processes: after DDP's average, the loss of the whole batch."""

from __future__ import annotations

import pytest
import torch

from densekit import losses
from densekit.ops import dist
from densekit.testing import run_distributed
from tests.unit.losses.cases import LAYOUTS, LOSSES, case

pytestmark = pytest.mark.ddp

SPLIT = (slice(0, 1), slice(1, 4))
"""Images of each process: uneven, and the first has far fewer pixels that count."""

# Chosen among the pixels of one process, or a function of the order of all pixels at once.
OF_ONE_PROCESS = {"ce hardest", "ce hard", "lovasz"}
EXACT = {name: loss for name, loss in LOSSES.items() if name not in OF_ONE_PROCESS}
EXACT["ce weighted"] = losses.PixelCrossEntropy([0.2, 3.0, 1.0])


def batch(layout):
    logits, mask = case(layout, (5, 6), batch=4)
    mask[0, ..., :4, :] = 255
    return logits, mask


def fits(name, layout):
    return name != "ce weighted" or LAYOUTS[layout][0] == 3


def measured(images):
    """Loss and gradient of some images of each batch."""
    found = {}
    for layout in LAYOUTS:
        logits, mask = (part[images] for part in batch(layout))
        for name, loss in EXACT.items():
            if fits(name, layout):
                leaf = logits.clone().requires_grad_()
                value = loss(leaf, mask)
                value.backward()
                found[name, layout] = value.detach(), leaf.grad
    return found


def split(rank):
    return measured(SPLIT[rank])


def alone(rank):
    with dist.counted_alone():
        return measured(SPLIT[rank])


def one_process_has_nothing(rank):
    """Gradients where all pixels of the second process are ignored."""
    found = {}
    for name, loss in LOSSES.items():
        logits, mask = (part[SPLIT[rank]] for part in batch("classes"))
        if rank == 1:
            mask = torch.full_like(mask, 255)
        leaf = logits.clone().requires_grad_()
        value = loss(leaf, mask)
        value.backward()
        found[name] = value.detach(), leaf.grad
    return found


def everything(rank):
    return split(rank), alone(rank), one_process_has_nothing(rank)


@pytest.fixture(scope="module")
def ranks():
    """What each of two processes found; they start once for all tests, which takes seconds."""
    return run_distributed(everything, 2)


def test_the_average_of_two_processes_is_the_loss_of_the_whole(ranks):
    whole = measured(slice(None))
    assert len(whole) > 40
    for case_, (loss, gradient) in whole.items():
        parts = [found[0][case_] for found in ranks]
        averaged = (parts[0][0] + parts[1][0]) / 2
        torch.testing.assert_close(averaged, loss, msg=lambda m, c=case_: f"{c}: {m}")
        joined = torch.cat([part[1] for part in parts]) / 2
        torch.testing.assert_close(joined, gradient, msg=lambda m, c=case_: f"{c}: {m}")


def test_counted_alone_a_process_gives_the_loss_of_its_own_images(ranks):
    for rank, found in enumerate(ranks):
        for case_, (loss, gradient) in measured(SPLIT[rank]).items():
            torch.testing.assert_close(found[1][case_][0], loss)
            torch.testing.assert_close(found[1][case_][1], gradient)


def test_a_process_without_a_counted_pixel_changes_nothing(ranks):
    for name in LOSSES:
        logits, mask = (part[SPLIT[0]] for part in batch("classes"))
        wanted = LOSSES[name](logits, mask)
        (first, _), (second, gradient) = (found[2][name] for found in ranks)
        assert gradient.eq(0).all()
        torch.testing.assert_close((first + second) / 2, wanted, msg=lambda m, n=name: f"{n}: {m}")
