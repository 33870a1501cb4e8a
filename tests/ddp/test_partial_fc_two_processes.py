"""Partial FC divided over two processes is the full softmax of one, to the ninth digit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from densekit import losses
from densekit.ops import dist
from densekit.training import Checkpoint
from tests.helpers import run_distributed
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


def train(folder: Path, processes: int, classifier: Any, resume: Path | None = None) -> Any:
    """Five steps over the border of an epoch, clipped hard; a checkpoint after the third."""
    settings: dict[str, Any] = {"devices": processes}
    settings["strategy"] = "ddp" if processes > 1 else "auto"
    save = Checkpoint(folder, last_every_n_steps=3)
    steps = 5 if resume is not None else 3 if folder.name.startswith("first") else 5
    run = trainer(
        folder,
        max_steps=steps,
        gradient_clip_val=CLIP,
        limit_val_batches=0,
        callbacks=[save],
        **settings,
    )
    lit = face_lit(face_model(classifier))
    run.fit(lit, datamodule=face_data(processes), ckpt_path=resume, weights_only=True)
    return {name: value.clone() for name, value in lit.state_dict().items()}


def train_rank(rank: int, folder: str, resume: str | None = None) -> dict[str, Tensor]:
    found: dict[str, Tensor] = train(
        Path(folder),
        2,
        partial(losses.PartialFC, margin=MARGINS["arc"]()),
        Path(resume) if resume else None,
    )
    return found


CENTRES = "model.heads.identity.classifier.centres"


def whole(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The states of two processes, of which everything but the centres is equal."""
    one, two = states
    for name, value in one.items():
        if name != CENTRES:
            torch.testing.assert_close(value, two[name], rtol=0, atol=0)
    assert (len(one[CENTRES]), len(two[CENTRES])) == (6, 5)
    return {**one, CENTRES: torch.cat([one[CENTRES], two[CENTRES]])}


def close(found: dict[str, Tensor], wanted: dict[str, Tensor], atol: float = 1e-9) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=atol, msg=lambda m, n=name: n + m
        )


def everything(rank: int) -> tuple[Found, dict[str, tuple[Tensor, Tensor]]]:
    return divided(rank), pair_losses(rank)


def test_losses_and_gradients_are_those_of_one_process() -> None:
    ranks = run_distributed(everything, 2)
    for name, (loss, embedding, centres) in measured(losses.MarginSoftmax).items():
        parts = [found[0][name] for found in ranks]
        # MagFace's term is of each process, as every loss with `global_count`; the mean is whole.
        torch.testing.assert_close((parts[0][0] + parts[1][0]) / 2, loss, rtol=0, atol=1e-9)
        gradient = torch.stack([parts[0][1], parts[1][1]], 1).flatten(0, 1)
        torch.testing.assert_close(gradient, embedding, rtol=0, atol=1e-9)
        torch.testing.assert_close(
            torch.cat([parts[0][2], parts[1][2]]), centres, rtol=0, atol=1e-9
        )
    for name, (loss, embedding) in pair_losses(0).items():
        parts = [found[1][name] for found in ranks]
        torch.testing.assert_close(parts[0][0], loss, rtol=0, atol=1e-9)
        gradient = torch.stack([parts[0][1], parts[1][1]], 1).flatten(0, 1)
        torch.testing.assert_close(gradient, embedding, rtol=0, atol=1e-9)


def test_clipped_training_saved_and_loaded_at_another_number_of_processes(tmp_path: Path) -> None:
    full = partial(losses.MarginSoftmax, margin=MARGINS["arc"]())
    partial_fc = partial(losses.PartialFC, margin=MARGINS["arc"]())
    wanted = train(tmp_path / "full", 1, full)
    start = face_model(full).state_dict()["heads.identity.classifier.centres"]
    assert (wanted[CENTRES] - start).abs().max() > 1e-4
    close(train(tmp_path / "one", 1, partial_fc), wanted)
    close(whole(run_distributed(train_rank, 2, str(tmp_path / "two"))), wanted)
    # Three steps in two processes, the rest in one; and the other way round.
    run_distributed(train_rank, 2, str(tmp_path / "first_two"))
    saved = torch.load(tmp_path / "first_two" / "last.ckpt", weights_only=True)
    assert len(saved["state_dict"][CENTRES]) == PEOPLE
    close(train(tmp_path / "then_one", 1, partial_fc, tmp_path / "first_two" / "last.ckpt"), wanted)
    train(tmp_path / "first_one", 1, partial_fc)
    checkpoint = str(tmp_path / "first_one" / "last.ckpt")
    close(whole(run_distributed(train_rank, 2, str(tmp_path / "then_two"), checkpoint)), wanted)
