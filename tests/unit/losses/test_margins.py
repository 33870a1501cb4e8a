"""Margin losses where numbers break: 16 bits, cosines of 1 and -1, wrong settings."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from densekit import losses
from densekit.ops import dist

MARGINS = {
    "none": losses.Margin,
    "arc": losses.ArcFace,
    "cos": losses.CosFace,
    "sphere": losses.SphereFace,
    "combined": losses.CombinedMargin,
    "ada": losses.AdaFace,
    "curricular": losses.CurricularFace,
    "mag": losses.MagFace,
}
PEOPLE, SIZE = 4, 8
every_margin = pytest.mark.parametrize("name", MARGINS)


def loss(module, rows, identity, valid=None):
    valid = torch.ones(len(rows), dtype=torch.bool) if valid is None else valid
    terms = module(rows, identity, valid, torch.arange(len(rows)))
    return torch.stack(list(terms.values())).sum()


@every_margin
@pytest.mark.parametrize("classifier", [losses.MarginSoftmax, losses.PartialFC])
def test_on_and_opposite_to_a_centre_the_gradient_is_finite(name, classifier):
    module = classifier(PEOPLE, SIZE, MARGINS[name]())
    rows = 20 * F.normalize(module.centres.detach()).clone()
    rows = torch.cat([rows, -rows, torch.zeros(1, SIZE)]).requires_grad_()
    identity = torch.tensor([*range(PEOPLE), *range(PEOPLE), 0])
    loss(module, rows, identity).backward()
    assert rows.grad.isfinite().all()
    assert module.centres.grad.isfinite().all()
    assert rows.grad.norm(dim=1).max() < 1e3


@every_margin
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_it_is_the_loss_in_full_precision(name, dtype):
    module = losses.MarginSoftmax(PEOPLE, SIZE, MARGINS[name]()).eval()
    rows = (10 * torch.randn(6, SIZE)).to(dtype)
    identity = torch.tensor([0, 1, 2, 3, 0, 1])
    wanted = loss(module, rows.float(), identity)
    with torch.autocast("cpu", dtype):
        found = loss(module, rows.requires_grad_(), identity)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    found.backward()
    assert rows.grad.isfinite().all()


@every_margin
def test_the_cosine_to_the_own_class_falls_with_the_angle(name):
    margin = MARGINS[name]()
    theta = torch.linspace(0, math.pi, 400, dtype=torch.float64)
    found = margin.target(theta.cos(), torch.full_like(theta, 20.0))
    assert (found.diff() <= 1e-9).all()
    assert (found <= theta.cos() + 1e-6).all()


@every_margin
def test_invalid_images_do_not_count(name):
    module = losses.MarginSoftmax(PEOPLE, SIZE, MARGINS[name]()).eval()
    rows, identity = torch.randn(5, SIZE), torch.tensor([0, 1, 2, 3, 0])
    valid = torch.tensor([True, True, True, False, False])
    torch.testing.assert_close(
        loss(module, rows, identity, valid), loss(module, rows[:3], identity[:3])
    )
    assert loss(module, rows, identity, torch.zeros(5, dtype=torch.bool)) == 0


def test_partial_fc_with_all_centres_is_the_full_softmax():
    for name, margin in MARGINS.items():
        full = losses.MarginSoftmax(PEOPLE, SIZE, margin()).double()
        partial = losses.PartialFC(PEOPLE, SIZE, margin()).double()
        partial.centres.data = full.centres.data.clone()
        rows, identity = torch.randn(6, SIZE).double() * 9, torch.tensor([0, 1, 2, 3, 0, 1])
        found = []
        for module in (full, partial):
            leaf = rows.clone().requires_grad_()
            value = loss(module, leaf, identity)
            value.backward()
            found.append((value.detach(), leaf.grad, module.centres.grad))
        for mine, wanted in zip(*found, strict=True):
            torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-9, msg=lambda m, n=name: n + m)


def drawn(module, identity, key):
    rows = torch.randn(len(identity), SIZE, requires_grad=True)
    valid = torch.ones(len(identity), dtype=torch.bool)
    module(rows, identity, valid, key)["ce"].backward()
    (found,) = module.drawn_rows()
    return found


def test_a_step_draws_the_identities_of_the_batch_and_its_share_of_others():
    module = losses.PartialFC(100, SIZE, rate=0.2)
    identity = torch.tensor([3, 97, 3, 40])
    found = drawn(module, identity, torch.arange(4))
    assert len(found.rows) == 20
    assert found.rows.diff().min() > 0
    assert set(identity.tolist()) <= set(found.rows.tolist())
    assert torch.equal(found.values, module.centres[found.rows])
    assert found.values.grad.norm(dim=1).min() > 0
    assert module.centres.grad is None
    # The same keys in another order draw the same, others draw others.
    assert torch.equal(found.rows, drawn(module, identity, torch.arange(4).flip(0)).rows)
    assert not torch.equal(found.rows, drawn(module, identity, torch.arange(4) + 1).rows)


def test_over_many_steps_every_centre_is_drawn_as_often():
    module = losses.PartialFC(50, SIZE, rate=0.2)
    counts = torch.zeros(50)
    for step in range(400):
        counts[drawn(module, torch.tensor([0]), torch.tensor([step * 7919])).rows] += 1
    assert counts[0] == 400
    share = counts[1:] / 400
    assert (share - 9 / 49).abs().max() < 0.08  # four standard deviations


def test_a_batch_of_more_identities_than_the_rate_allows_keeps_them_all():
    module = losses.PartialFC(100, SIZE, rate=0.01)
    found = drawn(module, torch.arange(0, 60, 2), torch.arange(30))
    assert set(range(0, 60, 2)) == set(found.rows.tolist())


@pytest.mark.parametrize(
    "loss",
    [losses.Triplet(), losses.Triplet(miner=losses.SemiHard()), losses.SupervisedContrastive()],
)
@pytest.mark.parametrize("identity", [[0, 0, 0], [0, 1, 2], [0]])
def test_pair_losses_are_zero_with_a_graph_where_there_is_no_pair(loss, identity):
    rows = torch.randn(len(identity), SIZE, requires_grad=True)
    valid = torch.ones(len(identity), dtype=torch.bool)
    value = loss(F.normalize(rows), torch.tensor(identity), valid)
    value.backward()
    assert value.isfinite()
    assert rows.grad.isfinite().all()
    if identity != [0, 0, 0] or isinstance(loss, losses.Triplet):
        assert value == 0


@pytest.mark.parametrize(
    "loss",
    [losses.Triplet(), losses.Triplet(miner=losses.SemiHard()), losses.SupervisedContrastive()],
)
def test_pair_losses_leave_out_what_is_not_valid(loss):
    rows, identity = F.normalize(torch.randn(8, SIZE)), torch.arange(8) % 3
    valid = torch.tensor([True] * 6 + [False] * 2)
    found = loss(rows, identity, valid)
    torch.testing.assert_close(found, loss(rows[:6], identity[:6], valid[:6]))


def test_semi_hard_triplets_take_no_more_than_pairs():
    class Largest(TorchDispatchMode):
        found = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            tensors = [t for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
            self.found = max([self.found, *(t.numel() for t in tensors)])
            return out

    rows, identity = F.normalize(torch.randn(32, SIZE)), torch.arange(32) % 4
    with Largest() as seen:
        losses.Triplet(miner=losses.SemiHard())(rows, identity, identity >= 0)
    assert seen.found == 32 * 32


@pytest.mark.parametrize(
    ("name", "gathers"), [("arc", 0), ("cos", 0), ("mag", 0), ("ada", 2), ("curricular", 2)]
)
def test_only_margins_with_running_statistics_look_at_all_processes(name, gathers, monkeypatch):
    calls = []
    monkeypatch.setattr(dist, "gathered_rows", lambda x: calls.append(x) or x)
    module = losses.MarginSoftmax(PEOPLE, SIZE, MARGINS[name]())
    loss(module, torch.randn(3, SIZE), torch.arange(3))
    assert len(calls) == gathers


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: losses.Margin(0), r"Margin\.scale: expected a number above 0"),
        (lambda: losses.CombinedMargin(m1=0.5), "m1 of at least 1"),
        (lambda: losses.ArcFace(-0.1), "m2 and m3 of at least 0"),
        (lambda: losses.AdaFace(momentum=0), "AdaFace: expected margin"),
        (lambda: losses.CurricularFace(momentum=2), r"CurricularFace\.momentum"),
        (lambda: losses.MagFace(lengths=(5, 2)), "ascending bounds"),
        (
            lambda: losses.MarginSoftmax(3, 4, sub_centres=0),
            "sub_centres: expected at least 1 each",
        ),
        (lambda: losses.PartialFC(3, 4, rate=0), r"rate in \(0, 1\]"),
        (lambda: losses.Triplet(0), r"Triplet\.margin: expected a number above 0"),
        (lambda: losses.SupervisedContrastive(0), "temperature: expected a number above 0"),
    ],
)
def test_impossible_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
