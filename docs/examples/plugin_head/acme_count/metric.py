"""Mean absolute error of the number of objects."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from densekit.types import Result, Truth


class CountError(Metric):
    """Mean absolute error of the count, over images, of all classes and of each.

    Args:
        names: Class names, in the order of the labels.
    """

    error: Tensor
    images: Tensor

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.names = names
        # Sums are the same for any number of processes: nothing has to be gathered.
        zeros = torch.zeros(len(names), dtype=torch.float64)
        self.add_state("error", default=zeros, dist_reduce_fx="sum")
        self.add_state("images", default=torch.zeros(()), dist_reduce_fx="sum")

    def update(self, results: list[Result], truth: list[Truth]) -> None:
        for result, true in zip(results, truth, strict=True):
            counted = true["labels"][~true["crowd"]]
            gt_count = np.bincount(counted, minlength=len(self.names))
            self.error += torch.from_numpy(np.abs(result["count"] - gt_count)).to(self.error)
        self.images += len(results)

    def compute(self) -> dict[str, Tensor]:
        mae = self.error / self.images  # nan where no image was seen
        by_class = {f"MAE/{name}": value for name, value in zip(self.names, mae, strict=True)}
        return {"MAE": mae.mean(), **by_class}
