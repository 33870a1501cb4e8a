"""The plug-in head of the documentation, through the same contract as the built-in heads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densekit import DenseModel
from densekit.backbones import ResNet
from densekit.build import build_model
from densekit.inference.restore import restore
from densekit.types import Batch

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "plugin_head"
NAMES = ["disc", "ring"]


@pytest.fixture
def count_head(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    from acme_count.head import Count

    return Count


@pytest.fixture
def model(count_head: Any) -> DenseModel:
    info = {
        "heads": {"count": {"names": NAMES, "ids": [1, 2], "num_classes": 2}},
        "mean": [127.0, 127.0, 127.0],
        "std": [64.0, 64.0, 64.0],
        "resize": None,
    }
    return DenseModel(
        ResNet(depth=18), heads={"count": partial(count_head, num_classes=2)}, info=info
    )


def test_node_needs_no_word_about_partial(count_head: Any) -> None:
    head = {"_target_": f"{count_head.__module__}.Count", "num_classes": 2}
    cfg = {
        "backbone": {"_target_": "densekit.backbones.ResNet", "depth": 18},
        "heads": {"mine": head},
    }
    assert isinstance(build_model(cfg, {}).heads["mine"], count_head)


def _batch(num_objects: int) -> Batch:
    image = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
    valid = torch.zeros(2, 8, dtype=torch.bool)
    valid[:, :num_objects] = True
    return Batch(
        image=image,
        size=torch.tensor([[64, 96], [64, 96]]),
        sample_valid=torch.tensor([True, True]),
        boxes=torch.tensor([8.0, 8.0, 24.0, 24.0]).expand(2, 8, 4) * valid[..., None],
        boxes_valid=valid,
        labels=torch.zeros(2, 8, dtype=torch.int64),
        crowd=torch.zeros(2, 8, dtype=torch.bool),
        meta=[{"path": "a", "image_id": i, "original_size": (64, 96)} for i in range(2)],
    )


@pytest.mark.parametrize("num_objects", [0, 3])
def test_loss_is_finite_and_reaches_every_parameter(model: DenseModel, num_objects: int) -> None:
    losses = model.loss(_batch(num_objects))
    torch.stack(list(losses.values())).sum().backward()
    assert set(losses) == {"count/poisson"}
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_padding_is_not_counted(model: DenseModel) -> None:
    model.eval()
    batch = _batch(3)
    batch["image"][:, :, :, 48:] = 0
    batch["size"][:, 1] = 48
    density = model(batch["image"], batch["size"])["count"]["density"]
    counts = model.predict(batch)["count"]["count"]
    torch.testing.assert_close(counts, density[..., :3].sum((-2, -1)))


def test_learns_to_count(model: DenseModel) -> None:
    batch = _batch(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(30):
        optimizer.zero_grad()
        model.loss(batch)["count/poisson"].backward()
        optimizer.step()
    counts = model.predict(batch)["count"]["count"]
    torch.testing.assert_close(counts[:, 0], torch.tensor([3.0, 3.0]), atol=1.0, rtol=0)


def test_metric_reads_restored_results(model: DenseModel) -> None:
    model.eval()
    batch = _batch(3)
    results = [result["count"] for result in restore(model.predict(batch), batch)]
    truth = {"labels": np.zeros(3, dtype=np.int64), "crowd": np.zeros(3, dtype=bool)}
    (metric,) = model.heads["count"].make_metrics(model.info["heads"]["count"]).values()
    metric.update(results, [truth, truth])
    expected = np.mean([abs(result["count"] - [3, 0]) for result in results])
    np.testing.assert_allclose(float(metric.compute()["MAE"]), expected, rtol=1e-6)
