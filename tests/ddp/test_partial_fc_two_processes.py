"""Partial FC divided over two processes is the full softmax of one, to the ninth digit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from densekit import losses
from densekit.ops import dist
from densekit.testing import run_distributed
from densekit.training import Checkpoint
from densekit.training.gradient_norms import gradient_norms
from tests.unit.training.faces import PEOPLE, face_data, face_lit, face_model
from tests.unit.training.fakes import trainer

pytestmark = pytest.mark.ddp

MARGINS = {
    "arc": partial(losses.ArcFace, scale=8.0),
    "combined": partial(losses.CombinedMargin, 1.1, 0.2, 0.1, scale=8.0),
    "ada": partial(losses.AdaFace, scale=8.0),
    "curricular": partial(losses.CurricularFace, scale=8.0),
    "mag": partial(losses.MagFace, (1.0, 9.0), scale=8.0),
}
BATCH, SIZE = 8, 6
CLIP = 0.05
STEPS = 8
"""Of training; an epoch has five."""
CENTRES, LAST = "model.heads.identity.classifier.centres", "last.ckpt"
Found = dict[str, tuple[Tensor, Tensor, Tensor]]


def rows() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    embedding = 3 * torch.randn(BATCH, SIZE, generator=generator, dtype=torch.float64)
    valid = torch.ones(BATCH, dtype=torch.bool)
    valid[3] = False
    return embedding, torch.tensor([0, 10, 5, 5, 6, 2, 9, 0]), valid


def measured(classifier: Any) -> Found:
    """Loss, gradient of the embeddings (as DDP averages it) and of the centres."""
    found = {}
    world, rank = dist.world_size(), dist.rank()
    for name, margin in MARGINS.items():
        torch.manual_seed(2)
        module = classifier(PEOPLE, SIZE, margin()).double()
        if isinstance(module, losses.PartialFC):
            module.shard()
        embedding, identity, valid = (x[rank::world] for x in rows())
        leaf = embedding.clone().requires_grad_()
        terms = module(leaf, identity, valid, torch.arange(BATCH)[rank::world])
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        assert leaf.grad is not None
        assert module.centres.grad is not None
        found[name] = loss.detach(), leaf.grad / world, module.centres.grad
    return found


def divided(rank: int) -> Found:
    return measured(losses.PartialFC)


def pair_losses(rank: int) -> dict[str, tuple[Tensor, Tensor]]:
    embedding, identity, valid = rows()
    world = dist.world_size()
    modules = {
        "hard": losses.Triplet(0.5),
        "semi": losses.Triplet(0.5, losses.SemiHard()),
        "contrastive": losses.SupervisedContrastive(),
    }
    found = {}
    for name, module in modules.items():
        leaf = embedding[rank::world].clone().requires_grad_()
        unit = torch.nn.functional.normalize(dist.gathered_rows(leaf))
        labels = dist.gathered_rows(identity[rank::world])
        loss = module(unit, labels, dist.gathered_rows(valid[rank::world].long()) > 0)
        loss.backward()
        assert leaf.grad is not None
        found[name] = loss.detach(), leaf.grad / world
    return found


class Norms(Callback):
    """Keeps the norms of the gradients of every step."""

    def __init__(self) -> None:
        self.found: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.found.append({k: float(v) for k, v in gradient_norms(pl_module).items()})


def train(
    folder: Path,
    processes: int,
    classifier: Any,
    steps: int,
    resume: Path | None,
    *callbacks: Callback,
) -> Any:
    """Steps over the border of an epoch, clipped hard; a checkpoint after the third."""
    run = trainer(
        folder,
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        max_steps=steps,
        gradient_clip_val=CLIP,
        limit_val_batches=0,
        callbacks=[Checkpoint(folder, last_every_n_steps=3), *callbacks],
    )
    lit = face_lit(face_model(classifier))
    run.fit(lit, datamodule=face_data(processes), ckpt_path=resume, weights_only=True)
    return {name: value.clone() for name, value in lit.state_dict().items()}


def full() -> Any:
    return partial(losses.MarginSoftmax, margin=MARGINS["arc"]())


def partial_fc() -> Any:
    return partial(losses.PartialFC, margin=MARGINS["arc"]())


def everything(rank: int, folder: str) -> dict[str, Any]:
    """All that two processes do, in one start of them."""
    root = Path(folder)
    train(root / "first_two", 2, partial_fc(), 3, None)
    norms = Norms()
    return {
        "classifiers": divided(rank),
        "pairs": pair_losses(rank),
        "straight": train(root / "two", 2, partial_fc(), STEPS, None, norms),
        "norms": norms.found,
        "resumed": train(root / "then_two", 2, partial_fc(), STEPS, root / "first_one" / LAST),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the checkpoint of one process after three steps."""
    root = tmp_path_factory.mktemp("runs")
    train(root / "first_one", 1, partial_fc(), 3, None)
    return root


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, Any]]:
    return run_distributed(everything, 2, str(folder))


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[str, Tensor]:
    """The full softmax trained in one process."""
    state: dict[str, Tensor] = train(folder / "full", 1, full(), STEPS, None)
    return state


def whole(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The states of two processes, of which everything but the centres is equal."""
    one, two = states
    for name, value in one.items():
        if name != CENTRES:
            torch.testing.assert_close(value, two[name], rtol=0, atol=0)
    assert (len(one[CENTRES]), len(two[CENTRES])) == (5, 6)
    return {**one, CENTRES: torch.cat([one[CENTRES], two[CENTRES]])}


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )


def interleaved(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts, 1).flatten(0, 1)


def test_losses_and_gradients_are_those_of_one_process(ranks: list[dict[str, Any]]) -> None:
    for name, (loss, embedding, centres) in measured(losses.MarginSoftmax).items():
        found = [rank["classifiers"][name] for rank in ranks]
        # MagFace's term is a process's own, as all that divides by `global_count`.
        average = (found[0][0] + found[1][0]) / 2
        torch.testing.assert_close(average, loss, rtol=0, atol=1e-9)
        gradient = interleaved([part[1] for part in found])
        torch.testing.assert_close(gradient, embedding, rtol=0, atol=1e-9)
        joined = torch.cat([part[2] for part in found])
        torch.testing.assert_close(joined, centres, rtol=0, atol=1e-9)


def test_pair_losses_compare_the_images_of_both(ranks: list[dict[str, Any]]) -> None:
    for name, (loss, embedding) in pair_losses(0).items():
        found = [rank["pairs"][name] for rank in ranks]
        torch.testing.assert_close(found[0][0], loss, rtol=0, atol=1e-9)
        gradient = interleaved([part[1] for part in found])
        torch.testing.assert_close(gradient, embedding, rtol=0, atol=1e-9)


def test_a_clipped_training_is_that_of_the_full_softmax(
    folder: Path, ranks: list[dict[str, Any]], wanted: dict[str, Tensor]
) -> None:
    start = face_model(full()).state_dict()[CENTRES.removeprefix("model.")]
    assert (wanted[CENTRES] - start).abs().max() > 1e-4
    assert_equal(train(folder / "one", 1, partial_fc(), STEPS, None), wanted)
    assert_equal(whole([rank["straight"] for rank in ranks]), wanted)


def test_a_checkpoint_of_two_processes_goes_on_in_one(
    folder: Path, ranks: list[dict[str, Any]], wanted: dict[str, Tensor]
) -> None:
    saved = torch.load(folder / "first_two" / LAST, weights_only=True)
    assert len(saved["state_dict"][CENTRES]) == PEOPLE
    resumed = train(folder / "then_one", 1, partial_fc(), STEPS, folder / "first_two" / LAST)
    assert_equal(resumed, wanted)


def test_a_checkpoint_of_one_process_goes_on_in_two(
    ranks: list[dict[str, Any]], wanted: dict[str, Tensor]
) -> None:
    assert_equal(whole([rank["resumed"] for rank in ranks]), wanted)


def test_norms_of_the_gradients_are_those_of_one_process(
    ranks: list[dict[str, Any]], folder: Path
) -> None:
    one = Norms()
    train(folder / "norms", 1, partial_fc(), STEPS, None, one)
    assert len(one.found) == STEPS
    for rank in ranks:
        for own, found in zip(one.found, rank["norms"], strict=True):
            assert found == pytest.approx(own, rel=1e-3)
