"""The head under test, in a small model, with its test batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from densekit.backbones import ResNet
from densekit.data.collate import collate
from densekit.heads.base import Head
from densekit.inference.restore import restore
from densekit.model import DenseModel
from densekit.necks import FPN
from densekit.types import Batch, Result, Sample, TargetSpec, Truth

HEAD = "head"
WIDTH = 16
"""Width of the ResNet's stem: a step takes milliseconds."""

HeadMaker = Callable[..., Head]


@dataclass(frozen=True)
class Subject:
    """A head with its test samples; it pickles if `make` does.

    Attributes:
        make: Builds the head on the specs of every level.
        samples: Two or more training samples with the head's targets.
        target_specs: How collate stacks the targets of plug-ins.
        info: Declarations about the head's targets: `names`, `ids`, `num_classes`, ...
        output_stride: Of the backbone.
    """

    make: HeadMaker
    samples: Sequence[Sample]
    target_specs: Mapping[str, TargetSpec]
    info: Mapping[str, Any]
    output_stride: int = 32

    def model(self, samples: Sequence[Sample] | None = None) -> DenseModel:
        """Builds a thin ResNet-18 with p2 to p7 and the head, in training mode, always the same.

        Args:
            samples: Images that determine its input; those of the subject by default.
        """
        image = (samples or self.samples)[0]["image"]
        channels, dims = image.shape[-1], image.ndim - 1
        torch.manual_seed(0)
        return DenseModel(
            ResNet(
                18,
                width=WIDTH,
                in_channels=channels,
                spatial_dims=dims,
                output_stride=self.output_stride,
            ),
            {HEAD: self.make},
            partial(FPN, out_channels=2 * WIDTH, extra="conv_backbone"),
            {"heads": {HEAD: self.info}, "mean": [127.0] * channels, "std": [64.0] * channels},
        )

    def batch(self, samples: Sequence[Sample] | None = None) -> Batch:
        """Collates samples for training, those of the subject by default."""
        return collate(
            self.samples if samples is None else samples,
            training=True,
            target_specs=self.target_specs,
        )

    def without_targets(self, samples: Sequence[Sample] | None = None) -> Batch:
        """Collates the same images as at inference."""
        batch = self.batch(samples)
        return Batch(image=batch["image"], size=batch["size"], meta=batch["meta"])

    def results(self) -> tuple[list[Result], list[Truth]]:
        """Returns an untrained model's result for each image in its original frame, and the truth.

        The second list is empty if the samples have none.
        """
        batch = self.without_targets()
        with torch.no_grad():
            results = restore(self.model().eval().predict(batch), batch)
        truth = [sample["truth"] for sample in self.samples if "truth" in sample]
        return [result[HEAD] for result in results], truth


def head_of(model: DenseModel) -> Head:
    """Returns the head under test."""
    return model.heads[HEAD]


def total_loss(model: DenseModel, batch: Batch) -> Tensor:
    """Sums the loss terms, (), with the same random draws every time."""
    torch.manual_seed(1)
    terms = model.loss(batch)
    assert terms, "loss returned no term"
    for name, term in terms.items():
        assert term.shape == (), f"loss term {name} has shape {tuple(term.shape)}, not ()"
        assert bool(torch.isfinite(term)), f"loss term {name} is {float(term.detach())}"
    return torch.stack(list(terms.values())).sum()


def check_gradients(module: nn.Module, loss: Tensor) -> None:
    """Asserts that a loss gives every trainable parameter of a module a finite gradient."""
    assert loss.requires_grad, "the loss has no graph: it reaches no parameter"
    loss.backward()
    grads = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    missing = [name for name, grad in grads.items() if grad is None]
    assert not missing, f"no gradient for {', '.join(missing[:5])}"
    wild = [name for name, g in grads.items() if g is not None and not torch.isfinite(g).all()]
    assert not wild, f"the gradient of {', '.join(wild[:5])} is not finite"
