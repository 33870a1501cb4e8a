"""torchvision detectors with random weights that really detect something."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN,
    MaskRCNN,
    fasterrcnn_resnet50_fpn_v2,
    maskrcnn_resnet50_fpn_v2,
)
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d


def build(
    name: str, num_classes: int = 7, frozen: bool = True, masks: bool = False, **settings: int
) -> FasterRCNN:
    """`resnet18`, `resnet34`, `resnet50` (v1) or `resnet50_v2`, seeded, in eval mode."""
    torch.manual_seed(0)
    if name == "resnet50_v2":
        make_v2 = maskrcnn_resnet50_fpn_v2 if masks else fasterrcnn_resnet50_fpn_v2
        model = make_v2(
            weights=None, weights_backbone=None, num_classes=num_classes + 1, **settings
        )
    else:
        norm = FrozenBatchNorm2d if frozen else nn.BatchNorm2d
        backbone = resnet_fpn_backbone(
            backbone_name=name, weights=None, norm_layer=norm, trainable_layers=5
        )
        make = MaskRCNN if masks else FasterRCNN
        model = make(backbone, num_classes + 1, **settings)
    return model.eval()


@torch.no_grad()
def calibrate(model: FasterRCNN, images: list[Tensor], logit_scale: float = 4.0) -> None:
    """Scales and centres the predictors' outputs, so that scores spread and boxes move a little."""
    standardise(model, images)
    rpn, box_predictor = model.rpn.head, model.roi_heads.box_predictor
    scale_outputs(partial(propose, model), images, {rpn.cls_logits: 2.0, rpn.bbox_pred: 0.05})
    for layer in model.roi_heads.box_head.modules():
        if isinstance(layer, nn.Linear):
            scale_outputs(model, images, {layer: 1.0})
    stds = {box_predictor.cls_score: logit_scale, box_predictor.bbox_pred: 0.2}
    scale_outputs(model, images, stds)
    if model.roi_heads.has_mask():
        scale_outputs(model, images, {model.roi_heads.mask_predictor.mask_fcn_logits: 2.0})


def propose(model: FasterRCNN, images: list[Tensor]) -> None:
    """Runs the first stage alone; the second is most of the work."""
    batch, _ = model.transform(images)
    model.rpn(batch, model.backbone(batch.tensors))


def standardise(model: FasterRCNN, images: list[Tensor]) -> None:
    """Sets every norm's statistics to those of its input, as training would.

    In a deep net of fresh weights all places look nearly alike, and what the predictors then make
    of the difference is mostly rounding error, in either implementation.
    """

    blocks = [m for m in model.modules() if isinstance(m, BasicBlock | Bottleneck)]
    last_of_block = {getattr(block, "bn3", block.bn2) for block in blocks}

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].transpose(0, 1).flatten(1)
        norm.running_mean.copy_(x.mean(1))
        norm.running_var.copy_(x.var(1) + 1e-3)
        norm.weight.data.copy_(0.5 + torch.rand_like(norm.weight))
        if norm in last_of_block:  # a chaotic net would amplify rounding errors of either side
            norm.weight.data.mul_(0.2)

    handles = [
        module.register_forward_pre_hook(measure)
        for module in model.modules()
        if isinstance(module, FrozenBatchNorm2d | nn.BatchNorm2d)
    ]
    model(images[:2])
    for handle in handles:
        handle.remove()


def scale_outputs(
    run: Callable[[list[Tensor]], object], images: list[Tensor], stds: dict[nn.Module, float]
) -> None:
    """Gives the outputs of layers these standard deviations; no layer feeds another."""
    seen: dict[nn.Module, list[Tensor]] = {layer: [] for layer in stds}
    handles = [
        layer.register_forward_hook(lambda layer, _, out: seen[layer].append(out.detach()))
        for layer in stds
    ]
    run(images)
    for handle in handles:
        handle.remove()
    for layer, std in stds.items():
        flat = torch.cat([s.transpose(0, 1).flatten(1) for s in seen[layer]], 1)
        factor = std / flat.std(1).clamp(min=1e-6)
        layer.weight.mul_(factor.view(-1, *[1] * (layer.weight.ndim - 1)))
        layer.bias.copy_((layer.bias - flat.mean(1)) * factor)


def pictures(count: int, seed: int = 0, longest: int = 320) -> list[Tensor]:
    """Smooth random pictures of mixed sizes, floats in 0..1."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for number in range(count):
        height = longest - 16 * (number % 7) - number % 3
        width = longest - 24 * (number % 5) - number % 2
        coarse = torch.rand(1, 3, 9, 11, generator=generator)
        smooth = nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0]
        noise = 0.1 * torch.randn(3, height, width, generator=generator)
        images.append((smooth + noise).clamp(0, 1))
    return images
