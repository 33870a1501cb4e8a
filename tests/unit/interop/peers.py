"""Seeded models of other libraries, small or quick to build, and images for them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

State = dict[str, Tensor]


@torch.no_grad()
def shaken(model: nn.Module) -> nn.Module:
    """Statistics and scales of batch norms that are not those of a fresh model."""
    torch.manual_seed(1)
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.7, 1.4)
            module.weight.uniform_(0.5, 1.1)
            module.bias.uniform_(-0.2, 0.2)
    return model.eval()


def detector(num_classes: int = 3) -> FasterRCNN:
    """A Faster R-CNN on a ResNet-18 with frozen batch norms."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet18", weights=None)
    return shaken(FasterRCNN(backbone, num_classes + 1))


def photo(height: int = 96, width: int = 128) -> Tensor:
    """(3, H, W) uint8."""
    torch.manual_seed(2)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


def saved(path: Path, content: object) -> Path:
    """Saves anything with torch.save; returns the path."""
    torch.save(content, path)
    return path
