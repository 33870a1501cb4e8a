"""How far the number of detected objects is off."""

import warnings

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class CountError(Metric):
    """Mean absolute and mean signed error of the number of objects per image."""

    higher_is_better = False  # of the first value
    full_state_update = False

    def __init__(self, min_score=0.5):
        super().__init__()
        self.min_score = min_score
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(self, results, truth):
        found = [int((r["scores"] >= self.min_score).sum()) for r in results]
        errors = [n - len(t["boxes"]) for n, t in zip(found, truth, strict=True)]
        self.errors.append(torch.tensor(errors, dtype=torch.float32, device=self.device))

    def compute(self):
        errors = dim_zero_cat(self.errors if len(self.errors) else [torch.zeros(0)])
        if not len(errors):
            warnings.warn("count_MAE is nan: no images", stacklevel=2)
        return {"count_MAE": float(errors.abs().mean()), "count_bias": float(errors.mean())}
