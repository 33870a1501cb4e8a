"""Margins and pair losses against pytorch-metric-learning and the formulas of the papers."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor

from densekit import losses as ours

pytestmark = pytest.mark.parity

PEOPLE, SIZE, BATCH, SCALE = 7, 12, 20, 16.0
HALF = math.degrees(0.5)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Embeddings of lengths 2 to 60 and their identities."""
    rows = F.normalize(torch.randn(BATCH, SIZE, dtype=torch.float64))
    return rows * torch.linspace(2, 60, BATCH)[:, None], torch.randint(0, PEOPLE, (BATCH,))


def run(module: ours.MarginSoftmax, rows: Tensor, identity: Tensor) -> dict[str, Tensor]:
    valid = torch.ones(len(rows), dtype=torch.bool)
    return module(rows, identity, valid, torch.zeros(len(rows), dtype=torch.int64))


@pytest.mark.parametrize(
    ("margin", "peer", "sub_centres"),
    [
        (ours.ArcFace(0.5, SCALE), losses.ArcFaceLoss, 1),
        (ours.ArcFace(0.5, SCALE), losses.SubCenterArcFaceLoss, 3),
        (ours.CosFace(0.35, SCALE), losses.CosFaceLoss, 1),
    ],
)
def test_loss_and_gradients_are_those_of_pytorch_metric_learning(batch, margin, peer, sub_centres):
    rows, identity = batch
    module = ours.MarginSoftmax(PEOPLE, SIZE, margin, sub_centres).double()
    kwargs = {"margin": 0.35 if peer is losses.CosFaceLoss else HALF, "scale": SCALE}
    kwargs |= {"sub_centers": sub_centres} if sub_centres > 1 else {}
    theirs = peer(num_classes=PEOPLE, embedding_size=SIZE, **kwargs)
    theirs.W.data = module.centres.data.T.clone()
    mine, other = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    loss = run(module, mine, identity)["ce"]
    wanted = theirs(other, identity)
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-9)
    loss.backward()
    wanted.backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(module.centres.grad, theirs.W.grad.T, rtol=1e-7, atol=1e-9)


def reference(
    name: str, cosine: Tensor, identity: Tensor, norm: Tensor
) -> tuple[Tensor, Tensor | float]:
    """Logits / scale and the further term, as the paper writes them, with arccos."""
    own = F.one_hot(identity, PEOPLE).bool()
    theta = cosine.arccos()
    if name == "sphere":
        return torch.where(own, (1.35 * theta).cos(), cosine), 0.0
    if name == "combined":
        return torch.where(own, (1.1 * theta + 0.3).cos() - 0.2, cosine), 0.0
    if name == "mag":
        a = norm.clamp(10, 110)
        m = (0.8 - 0.45) / (110 - 10) * (a - 10) + 0.45
        term = 35 * (1 / 110**2 * a + 1 / a).mean()
        return torch.where(own, (theta + m[:, None]).cos(), cosine), term
    if name == "ada":
        length = norm.detach()
        mean = 0.99 * 20 + 0.01 * length.mean()
        deviation = 0.99 * 100 + 0.01 * length.std()
        z = ((length - mean) / (deviation + 1e-3) * 0.333).clamp(-1, 1)[:, None]
        return torch.where(own, (theta - 0.4 * z).cos() - (0.4 + 0.4 * z), cosine), 0.0
    target = (theta + 0.5).cos()[own]
    t = 0.01 * cosine[own].mean().detach()
    hard = torch.where(cosine > target[:, None], cosine * (t + cosine), cosine)
    return torch.where(own, target[:, None], hard), 0.0


@pytest.mark.parametrize(
    ("name", "margin"),
    [
        ("sphere", ours.SphereFace(1.35, SCALE)),
        ("combined", ours.CombinedMargin(1.1, 0.3, 0.2, SCALE)),
        ("mag", ours.MagFace(scale=SCALE)),
        ("ada", ours.AdaFace(scale=SCALE)),
        ("curricular", ours.CurricularFace(scale=SCALE)),
    ],
)
def test_loss_and_gradient_are_those_of_the_paper(batch, name, margin):
    rows, identity = batch
    module = ours.MarginSoftmax(PEOPLE, SIZE, margin).double()
    mine, other = rows.clone().requires_grad_(), rows.clone().requires_grad_()
    cosine = F.normalize(other) @ F.normalize(module.centres.detach()).T
    own = cosine.gather(1, identity[:, None])
    assert own.min() > -0.8  # no widened angle passes pi, where papers and codes differ
    logits, term = reference(name, cosine, identity, other.norm(dim=1))
    wanted = F.cross_entropy(SCALE * logits, identity) + term
    loss = torch.stack(list(run(module, mine, identity).values())).sum()
    torch.testing.assert_close(loss, wanted, rtol=1e-7, atol=1e-7)
    loss.backward()
    wanted.backward()
    torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-8)


def test_sphere_faces_continuation_is_that_of_the_paper():
    margin = ours.SphereFace(4.0)
    theta = torch.linspace(0.01, math.pi - 0.01, 200, dtype=torch.float64)
    k = (4 * theta / math.pi).floor()
    wanted = (-1) ** k * (4 * theta).cos() - 2 * k
    torch.testing.assert_close(margin.target(theta.cos(), theta), wanted)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_supervised_contrastive_is_that_of_pytorch_metric_learning(batch, temperature):
    rows, identity = batch
    rows, valid = F.normalize(rows), torch.ones(BATCH, dtype=torch.bool)
    wanted = losses.SupConLoss(temperature=temperature)(rows, identity)
    loss = ours.SupervisedContrastive(temperature)(rows, identity, valid)
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-9)


def test_batch_hard_triplets_are_those_of_pytorch_metric_learning(batch):
    rows, identity = batch
    rows, valid = F.normalize(rows), torch.ones(BATCH, dtype=torch.bool)
    squared = distances.LpDistance(power=2)
    triplets = miners.BatchHardMiner(distance=squared)(rows, identity)
    peer = losses.TripletMarginLoss(margin=0.2, distance=squared, reducer=reducers.MeanReducer())
    wanted = peer(rows, identity, triplets)
    loss = ours.Triplet(0.2)(rows, identity, valid)
    torch.testing.assert_close(loss, wanted, rtol=1e-9, atol=1e-9)


def test_semi_hard_negatives_are_the_nearest_of_those_beyond_the_positive(batch):
    rows, identity = batch
    rows, valid = F.normalize(rows), torch.ones(BATCH, dtype=torch.bool)
    distance = torch.cdist(rows, rows).square()
    found = []
    for a in range(BATCH):
        for p in range(BATCH):
            if p == a or identity[p] != identity[a]:
                continue
            beyond = [
                distance[a, n]
                for n in range(BATCH)
                if identity[n] != identity[a] and distance[a, n] > distance[a, p]
            ]
            if beyond:
                found.append((distance[a, p] - min(beyond) + 0.2).clamp(min=0))
    loss = ours.Triplet(0.2, ours.SemiHard())(rows, identity, valid)
    torch.testing.assert_close(loss, torch.stack(found).mean(), rtol=1e-9, atol=1e-9)
