"""A ResNet with FPN and Faster R-CNN in plain functions, after detectron2's and mmdetection's code.

Every weight is made where it is first used, by its library's name, and scaled as training would:
places differ and scores spread. Shape letters: C channels, R boxes, K classes, A anchors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from densekit import DenseModel

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
MAX_LOG_SCALE = math.log(1000 / 16)
SIZE = (121, 155)

Detections = tuple[Tensor, Tensor, Tensor]
"""Boxes, scores and labels."""


@dataclass
class Weights:
    """Tensors by name."""

    norm_of: Callable[[str], str]
    """Maps a convolution's name to that of its norm."""
    state: dict[str, Tensor] = field(default_factory=dict)
    counters: bool = False
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def conv(
        self,
        name: str,
        x: Tensor,
        out: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        std: float | None = None,
        bias: bool = True,
    ) -> Tensor:
        """A convolution, its output of the given deviation where the weights are new."""

        def apply() -> Tensor:
            weight, shift = self.state[f"{name}.weight"], self.state.get(f"{name}.bias")
            return F.conv2d(x, weight, shift, stride, kernel // 2, 1, groups)

        if f"{name}.weight" not in self.state:
            inputs = x.shape[1] // groups
            scale = (inputs * kernel**2) ** -0.5
            self.state[f"{name}.weight"] = scale * self.draw(out, inputs, kernel, kernel)
            if bias:
                self.state[f"{name}.bias"] = 0.1 * self.draw(out)
            self._scale(name, apply, std)
        return apply()

    def linear(self, name: str, x: Tensor, out: int, std: float) -> Tensor:
        def apply() -> Tensor:
            return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

        if f"{name}.weight" not in self.state:
            self.state[f"{name}.weight"] = x.shape[1] ** -0.5 * self.draw(out, x.shape[1])
            self.state[f"{name}.bias"] = 0.1 * self.draw(out)
            self._scale(name, apply, std)
        return apply()

    def _scale(self, name: str, apply: Callable[[], Tensor], std: float | None) -> None:
        if std is None:
            return
        y = apply().transpose(0, 1).flatten(1)
        factor = std / y.std(1).clamp(min=1e-6)
        weight = self.state[f"{name}.weight"]
        weight.mul_(factor.view(-1, *[1] * (weight.ndim - 1)))
        bias = self.state[f"{name}.bias"]
        bias.copy_((bias - y.mean(1)) * factor)

    def norm(self, conv: str, x: Tensor, gain: float = 1.0) -> Tensor:
        """A batch norm with constant statistics, of the input where they are new."""
        name = self.norm_of(conv)
        if f"{name}.weight" not in self.state:
            y = x.transpose(0, 1).flatten(1)
            self.state[f"{name}.weight"] = gain * (0.5 + self.draw(len(y)).abs())
            self.state[f"{name}.bias"] = 0.1 * self.draw(len(y))
            self.state[f"{name}.running_mean"] = y.mean(1)
            self.state[f"{name}.running_var"] = y.var(1) + 1e-3
            if self.counters:
                self.state[f"{name}.num_batches_tracked"] = torch.tensor(1)
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(self.state[f"{name}.{key}"] for key in keys), eps=1e-5)


@dataclass(frozen=True)
class Body:
    """A ResNet of bottlenecks by its library's names."""

    stem: str
    block: str
    """With `{stage}` (2 to 5) or `{layer}` (1 to 4), and `{block}`."""
    shortcut: str
    stride_in_1x1: bool = False
    depth: int = 50
    groups: int = 1
    width: int = 8
    """Channels of the stem; the paper has 64."""

    def levels(self, weights: Weights, x: Tensor) -> list[Tensor]:
        """c2 to c5 of a normalised image."""
        x = weights.conv(self.stem, x, self.width, 7, stride=2, bias=False)
        x = F.max_pool2d(weights.norm(self.stem, x).relu(), 3, 2, 1)
        found = []
        for stage, count in enumerate(BLOCKS[self.depth], start=2):
            for block in range(count):
                stride = 2 if stage > 2 and block == 0 else 1
                name = self.block.format(stage=stage, layer=stage - 1, block=block)
                x = self._bottleneck(weights, name, x, self.width * 2 ** (stage - 2), stride)
            found.append(x)
        return found

    def _bottleneck(
        self, weights: Weights, name: str, x: Tensor, width: int, stride: int
    ) -> Tensor:
        first, second = (stride, 1) if self.stride_in_1x1 else (1, stride)
        inner, out = width * (2 if self.groups > 1 else 1), 4 * width
        y = weights.conv(f"{name}.conv1", x, inner, stride=first, bias=False)
        y = weights.norm(f"{name}.conv1", y).relu()
        y = weights.conv(
            f"{name}.conv2", y, inner, 3, stride=second, groups=self.groups, bias=False
        )
        y = weights.norm(f"{name}.conv2", y).relu()
        y = weights.conv(f"{name}.conv3", y, out, bias=False)
        y = weights.norm(f"{name}.conv3", y, gain=0.3)
        if x.shape[1] != out:
            short = f"{name}.{self.shortcut}"
            x = weights.norm(short, weights.conv(short, x, out, stride=stride, bias=False))
        return (x + y).relu()


def cell_anchors(sizes: list[float], ratios: tuple[float, ...] = (0.5, 1.0, 2.0)) -> Tensor:
    """Anchors of one cell, ordered by size, then by ratio, as in detectron2."""
    boxes = []
    for size in sizes:
        for ratio in ratios:
            width = math.sqrt(size**2 / ratio)
            boxes.append([-width / 2, -width * ratio / 2, width / 2, width * ratio / 2])
    return torch.tensor(boxes)


def anchors_of(x: Tensor, stride: int, cell: Tensor) -> Tensor:
    """The anchors (A, 4) of a level, ordered by row, column, anchor of the cell."""
    y = torch.arange(x.shape[-2]) * stride
    rows, columns = torch.meshgrid(y, torch.arange(x.shape[-1]) * stride, indexing="ij")
    shift = torch.stack([columns, rows, columns, rows], -1).view(-1, 1, 4)
    return (shift + cell).view(-1, 4).double()


def per_anchor(x: Tensor, values: int) -> Tensor:
    """Maps (1, anchors of a cell * values, h, w) to (A, values)."""
    return x.permute(0, 2, 3, 1).reshape(-1, values)


def apply_deltas(deltas: Tensor, boxes: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Boxes (R, 4) moved by deltas (R, 4)."""
    side = boxes[:, 2:] - boxes[:, :2]
    shift, scale = (deltas / deltas.new_tensor(weights)).split(2, 1)
    centre = boxes[:, :2] + 0.5 * side + shift * side
    half = 0.5 * scale.clamp(max=MAX_LOG_SCALE).exp() * side
    return torch.cat([centre - half, centre + half], 1)


def proposals(
    levels: list[tuple[Tensor, Tensor, Tensor]], size: tuple[int, int], pre: int, post: int
) -> Tensor:
    """The best boxes (R, 4) of all levels.

    Args:
        levels: Logits (A, 1), deltas (A, 4) and anchors (A, 4) of each.
        size: Height and width of the image.
        pre: Most boxes of a level before suppression.
        post: Most boxes after it.
    """
    boxes, scores, numbers = [], [], []
    for number, (logits, deltas, anchors) in enumerate(levels):
        score, index = logits[:, 0].topk(min(pre, len(logits)))
        boxes.append(apply_deltas(deltas[index], anchors[index], (1, 1, 1, 1)))
        scores.append(score)
        numbers.append(torch.full_like(index, number))
    box = clip_boxes_to_image(torch.cat(boxes), size)
    filled = ((box[:, 2:] - box[:, :2]) > 0).all(1)
    box, score, number = box[filled], torch.cat(scores)[filled], torch.cat(numbers)[filled]
    return box[batched_nms(box, score, number, 0.7)[:post]]


def pooled(levels: list[Tensor], boxes: Tensor, bins: int = 7) -> Tensor:
    """Aligned RoIAlign (R, C, bins, bins) of each box from its level, p2 to p5."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    level = torch.floor(4 + torch.log2(side / 224 + 1e-8)).clamp(2, 5).long() - 2
    out = boxes.new_zeros(len(boxes), levels[0].shape[1], bins, bins)
    for number, x in enumerate(levels):
        rows = level == number
        out[rows] = roi_align(x, [boxes[rows]], bins, 1 / 2 ** (number + 2), 0, aligned=True)
    return out


def detections(logits: Tensor, deltas: Tensor, boxes: Tensor, size: tuple[int, int]) -> Detections:
    """Boxes, scores and labels of one image from logits (R, K + 1) and deltas (R, 4 K)."""
    scores = logits.softmax(1)[:, :-1]
    rows, labels = (scores > 0.05).nonzero().unbind(1)
    own = deltas.view(len(boxes), -1, 4)[rows, labels]
    found = clip_boxes_to_image(apply_deltas(own, boxes[rows], (10, 10, 5, 5)), size)
    keep = batched_nms(found, scores[rows, labels], labels, 0.5)[:100]
    return found[keep], scores[rows, labels][keep], labels[keep]


def dense_detections(
    levels: list[tuple[Tensor, Tensor, Tensor]], size: tuple[int, int], *, clip_first: bool
) -> Detections:
    """Boxes, scores and labels of one image of RetinaNet.

    Args:
        levels: Logits (A, K), deltas (A, 4) and anchors (A, 4) of each.
        size: Height and width of the image.
        clip_first: Whether boxes are clipped before suppression (mmdetection) or at the end.
    """
    boxes, scores, labels = [], [], []
    for logits, deltas, anchors in levels:
        score = logits.sigmoid()
        rows, classes = (score > 0.05).nonzero().unbind(1)
        best, index = score[rows, classes].topk(min(1000, len(rows)))
        rows, classes = rows[index], classes[index]
        boxes.append(apply_deltas(deltas[rows], anchors[rows], (1, 1, 1, 1)))
        scores.append(best)
        labels.append(classes)
    box, score, label = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
    clipped = clip_boxes_to_image(box, size)
    filled = ((clipped[:, 2:] - clipped[:, :2]) > 0).all(1)
    if clip_first:
        box, clipped, score, label = clipped[filled], clipped[filled], score[filled], label[filled]
        filled = filled[filled]
    keep = batched_nms(box, score, label, 0.5)[:100]
    keep = keep[filled[keep]]
    return clipped[keep], score[keep], label[keep]


def picture() -> Tensor:
    """A smooth image (3, H, W) in 0..255."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 7, 9, generator=generator, dtype=torch.float64)
    return F.interpolate(coarse, SIZE, mode="bicubic")[0].clamp(0, 1) * 255


def mask_branch(
    weights: Weights, names: Sequence[str], levels: list[Tensor], found: Detections, classes: int
) -> Tensor:
    """Probabilities (N, 28, 28) of the masks of detections: all classes, of which one is kept.

    Args:
        weights: Those of the detector.
        names: Of the 3x3 convolutions, then of the deconvolution and of the predictor.
        levels: p2 to p5.
        found: The detections.
        classes: Their number, K.
    """
    boxes, _, labels = found
    *convs, deconv, predictor = names
    x = pooled(levels, boxes, 14)
    for name in convs:
        x = weights.conv(name, x, x.shape[1], 3, std=1.0).relu()
    kernel = weights.state.setdefault(
        f"{deconv}.weight", weights.draw(x.shape[1], x.shape[1], 2, 2) * x.shape[1] ** -0.5
    )
    shift = weights.state.setdefault(f"{deconv}.bias", 0.1 * weights.draw(x.shape[1]))
    x = F.conv_transpose2d(x, kernel, shift, stride=2).relu()
    logits = weights.conv(predictor, x, classes, std=2.0)
    return logits.sigmoid()[torch.arange(len(boxes)), labels]


def assert_segments(model: DenseModel, expected: Tensor) -> None:
    with torch.no_grad():
        batch = {"image": picture()[None], "size": torch.tensor([SIZE])}
        found = model.predict(batch)["detection"]
    torch.testing.assert_close(found["masks"][0, found["valid"][0]], expected, rtol=0, atol=1e-6)


def assert_detects(model: DenseModel, expected: Detections, tolerance: float = 1) -> None:
    with torch.no_grad():
        batch = {"image": picture()[None], "size": torch.tensor([SIZE])}
        found = model.predict(batch)["detection"]
    kept = found["valid"][0]
    boxes, scores, labels = expected
    assert len(boxes) > 20
    torch.testing.assert_close(found["boxes"][0, kept], boxes, rtol=0, atol=tolerance * 1e-4)
    torch.testing.assert_close(found["scores"][0, kept], scores, rtol=0, atol=tolerance * 1e-6)
    assert torch.equal(found["labels"][0, kept], labels)
