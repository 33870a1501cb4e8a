"""A tiny model, its data and an inferer that keep the contract of the real ones.

One head, "spot", finds the one box of each image: it regresses the box from the mean of a
convolution. Everything runs in milliseconds, so that whole trainings can be compared.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric

from densekit.ops import dist
from densekit.ops.dist import global_count
from densekit.training import LitModel
from densekit.types import Batch, Features

SIDE = 16
NAMES = ["cat", "dog"]


class FakeMetric(Metric):
    """Mean distance of the first box to the truth, exact for any number of processes."""

    full_state_update = False

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, results: list[dict[str, Any]], truth: list[dict[str, Any]]) -> None:
        rows = [
            [t["image_id"], float(np.abs(r["boxes"][0] - t["boxes"][0]).sum())]
            for r, t in zip(results, truth, strict=True)
        ]
        self.rows.append(torch.tensor(rows, dtype=torch.float64).reshape(-1, 2))

    def compute(self) -> dict[str, Tensor]:
        rows = torch.cat(self.rows) if isinstance(self.rows, list) else self.rows
        rows = rows[rows[:, 0].argsort()]
        return {
            "distance": rows[:, 1].mean(),
            "count": torch.tensor(float(len(rows))),
            "distance/cat": torch.tensor(float("nan")),
        }


class FakeHead(nn.Module):
    target_keys = ("boxes", "labels")
    main_metric = None

    def __init__(self) -> None:
        super().__init__()
        self.box = nn.Linear(4, 4)

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        target = batch["boxes"][:, 0] / SIDE
        valid = batch["boxes_valid"][:, 0] & batch["sample_valid"]
        noise = (batch["key"] % 1000).to(target.dtype)[:, None] * 1e-4  # random, but by the key
        error = (self.box(features["c1"]) - target - noise).square().sum(1)
        return {
            "box": (error * valid).sum() / global_count(valid.sum()),
            "weight": 1e-3 * self.box.weight.square().sum(),
        }

    def make_metrics(self, info: dict[str, Any]) -> dict[str, Metric]:
        return {"fake": FakeMetric(info["names"])}


class FakeModel(nn.Module):
    spatial_dims = 2

    def __init__(self, *, dropout: float = 0.0, heads: tuple[str, ...] = ("spot",)) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(dropout))
        self.heads = nn.ModuleDict({name: FakeHead() for name in heads})
        known = {"names": NAMES, "ids": [1, 2], "num_classes": 2}
        self.info = {"heads": dict.fromkeys(heads, known), "resize": None, "version": "0"}
        self.described, self.combined = self.info["heads"], dict[str, Any]()

    def resized(self, batch: Batch) -> Batch:
        return batch

    def features(self, batch: Batch) -> Features:
        image = batch["image"].to(self.backbone[0].weight.dtype) / 255
        return {"c1": self.backbone(image).mean(dim=(2, 3))}

    def loss(
        self, batch: Batch, features: Features | None = None, heads: Any = None
    ) -> dict[str, Tensor]:
        features = self.features(batch) if features is None else features
        return {
            f"{name}/{term}": value
            for name in heads or self.heads
            for term, value in self.heads[name].loss(features, batch).items()
        }


class FakeInferer:
    whole_image = True

    def __call__(
        self, model: FakeModel, batch: Batch, features: Features | None
    ) -> list[dict[str, Any]]:
        assert features is not None
        results = []
        for row in range(len(batch["key"])):
            boxes = {n: h.box(features["c1"])[row, None] * SIDE for n, h in model.heads.items()}
            results.append(
                {
                    name: {
                        "boxes": box.detach().double().numpy(),
                        "scores": np.array([0.9]),
                        "labels": np.array([0]),
                    }
                    for name, box in boxes.items()
                }
            )
        return results


class FakeImages(Dataset[dict[str, Any]]):
    def __init__(self, count: int, dtype: torch.dtype) -> None:
        random = torch.Generator().manual_seed(1)
        self.images = torch.randint(256, (count, 3, SIDE, SIDE), generator=random).byte()
        self.corners = (torch.rand(count, 2, generator=random) * SIDE / 2).to(dtype)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, bool]) -> dict[str, Any]:
        index, valid = key
        box = torch.cat([self.corners[index], self.corners[index] + SIDE / 4])
        return {"index": index, "valid": valid, "image": self.images[index], "box": box}


def collate(samples: list[dict[str, Any]]) -> Batch:
    boxes = torch.stack([s["box"] for s in samples])[:, None]
    truth = [
        {
            "image_id": s["index"],
            "boxes": s["box"][None].double().numpy(),
            "labels": np.zeros(1, dtype=np.int64),
        }
        for s in samples
    ]
    return {
        "image": torch.stack([s["image"] for s in samples]),
        "size": torch.full((len(samples), 2), SIDE),
        "sample_valid": torch.tensor([s["valid"] for s in samples]),
        "key": torch.tensor([s["index"] for s in samples]),
        "boxes": boxes,
        "boxes_valid": torch.ones(boxes.shape[:2], dtype=torch.bool),
        "labels": torch.zeros(boxes.shape[:2], dtype=torch.int64),
        "meta": [{"path": f"image_{s['index']}.png"} for s in samples],
        "truth": truth,  # type: ignore[typeddict-item]
    }


class FakeSampler:
    """Global batches in an order by epoch; rank r of n takes `[r::n]` of each; resumable."""

    def __init__(self, count: int, batch_size: int, *, shuffle: bool) -> None:
        self.count, self.batch_size, self.shuffle = count, batch_size, shuffle
        self.epoch, self.done = 0, 0

    def _global_size(self) -> int:
        return self.batch_size * dist.world_size()

    def __len__(self) -> int:
        if self.shuffle:
            return self.count // self._global_size()
        return -(-self.count // self._global_size())

    def __iter__(self) -> Any:
        size, batches = self._global_size(), len(self)
        if self.done >= batches:  # Lightning does not exhaust an iterator whose length it knows
            self.epoch, self.done = self.epoch + 1, 0
        order = list(range(self.count))
        if self.shuffle:
            random = torch.Generator().manual_seed(self.epoch)
            order = torch.randperm(self.count, generator=random).tolist()
        keys = [(i, True) for i in order] + [(order[0], False)] * (batches * size - self.count)
        while self.done < batches:
            self.done += 1
            start = (self.done - 1) * size
            yield keys[start : start + size][dist.rank() :: dist.world_size()]


class FakeLoader(DataLoader[Any]):
    def batch_of(self, index: int) -> Batch:
        batch: Batch = self.collate_fn([self.dataset[index, True]])
        return batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.batch_sampler.epoch, "batches": self.batch_sampler.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batch_sampler.epoch, self.batch_sampler.done = state["epoch"], state["batches"]


class FakeSource:
    def __init__(
        self,
        heads: tuple[str, ...] = ("spot",),
        *,
        batch_size: int = 4,
        count: int = 16,
        eval_count: int = 5,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.heads, self.batch_size = heads, batch_size
        self.train, self.eval = FakeImages(count, dtype), FakeImages(eval_count, dtype)

    def train_loader(self) -> FakeLoader:
        sampler = FakeSampler(len(self.train), self.batch_size, shuffle=True)
        return FakeLoader(self.train, batch_sampler=sampler, collate_fn=collate)

    def eval_loader(self) -> FakeLoader:
        sampler = FakeSampler(len(self.eval), 2, shuffle=False)
        return FakeLoader(self.eval, batch_sampler=sampler, collate_fn=collate)


class FakeData(L.LightningDataModule):
    def __init__(self, sources: dict[str, FakeSource] | None = None) -> None:
        super().__init__()
        self.sources = sources or {"toy": FakeSource()}
        self.source_names = list(self.sources)
        self.loaders: dict[str, FakeLoader] = {}
        self.restored: dict[str, dict[str, int]] = {}

    def train_dataloader(self) -> dict[str, FakeLoader]:
        self.loaders = {name: source.train_loader() for name, source in self.sources.items()}
        for name, state in self.restored.items():
            self.loaders[name].load_state_dict(state)
        return self.loaders

    # Lightning itself restores loaders only within an epoch, not between two.
    def state_dict(self) -> dict[str, dict[str, int]]:
        return {name: loader.state_dict() for name, loader in self.loaders.items()}

    def load_state_dict(self, state_dict: dict[str, dict[str, int]]) -> None:
        self.restored = state_dict

    def val_dataloader(self) -> list[FakeLoader]:
        return [source.eval_loader() for source in self.sources.values()]

    test_dataloader = val_dataloader


def fake_lit(model: FakeModel | None = None, optimizer: Any = None, **settings: Any) -> LitModel:
    """A LitModel on the fake model, the same one for the same seed."""
    if model is None:
        torch.manual_seed(3)
        model = FakeModel()
    optimizer = optimizer or partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)
    return LitModel(model, optimizer, inferer=FakeInferer(), **settings)  # type: ignore[arg-type]


def trainer(folder: Path, **settings: Any) -> L.Trainer:
    """A silent Trainer on one CPU."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "log_every_n_steps": 1,
        "default_root_dir": folder,
    }
    callbacks = settings.get("callbacks", [])
    saves = any("Checkpoint" in type(callback).__name__ for callback in callbacks)
    return L.Trainer(**quiet | {"enable_checkpointing": saves} | settings)
