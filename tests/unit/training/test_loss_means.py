from __future__ import annotations

import torch

from densekit.training.loss_means import LossMeans, rows_of


def test_a_mean_is_over_images_not_batches() -> None:
    means = LossMeans()
    means.update({"loss": torch.tensor(1.0), "ce": torch.tensor(2.0)}, 3)
    means.update({"loss": torch.tensor(5.0)}, 1)
    means.update({"loss": torch.tensor(float("nan"))}, 0)
    assert {name: float(value) for name, value in means.compute().items()} == {"loss": 2, "ce": 2}
    assert LossMeans().compute() == {}


def test_rows_of_a_batch_with_lists_and_nested_targets() -> None:
    batch = {"key": torch.arange(3), "meta": ["a", "b", "c"], "extra": {"x": torch.eye(3)}}
    rows = rows_of(batch, [0, 2])
    assert rows["key"].tolist() == [0, 2]
    assert rows["meta"] == ["a", "c"]
    assert rows["extra"]["x"].shape == (2, 3)
    assert rows_of(batch, [])["key"].shape == (0,)
