"""Conversion of detectors of mmdetection 3 (and 2, and its fork onedl-mmdetection) on a pyramid.

The tensors do not say how images are prepared, where a bottleneck's stride is, or which thresholds
apply. The configuration in mmdetection's files does; without it they are those of the
configurations in PyTorch's style. mmdetection lets no box shrink below 16 / 1000 of its anchor's
side, which a trained network does not reach; there alone boxes differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from densekit.heads.faster_rcnn import SamplingRule, detectron2_preset
from densekit.heads.one_stage import mmdet_retinanet
from densekit.interop.conversion import (
    COUNTER,
    Conversion,
    Parts,
    convert_tensors,
    renamer,
    without_parts,
)
from densekit.interop.detector import (
    BOX_HEAD,
    HEAD,
    MASK_HEAD,
    NAMES,
    RPN_HEAD,
    DetectorSettings,
    faster_rcnn_of,
    has_masks,
    is_two_stage,
    pyramid_of,
    resnet_of,
    retinanet_of,
)
from densekit.interop.mmdet_settings import settings_of
from densekit.interop.openmmlab import Recipe
from densekit.interop.reading import read_source
from densekit.interop.resnet_tensors import resnet_name
from densekit.model import DenseModel
from densekit.types import IMAGENET_MEAN, IMAGENET_STD

WHERE = "from_mmdet"
LATERAL = "neck.lateral_convs.{}.conv.weight"
DROPPED = {rf".*{COUNTER}$": "counter of a batch norm, whose statistics are constant"}


def matches(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a detector of mmdetection with a feature pyramid."""
    return LATERAL.format(0) in state and any(
        name.startswith(("rpn_head.", "bbox_head.", "roi_head.")) for name in state
    )


def from_mmdet(
    source: str | Path | Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    *,
    leave: Sequence[str] = (),
    settings: DetectorSettings | None = None,
) -> DenseModel:
    """Converts a Faster R-CNN, Mask R-CNN or RetinaNet of mmdetection (ResNet or ResNeXt with FPN).

    Boxes, scores and the probabilities of masks are equal; masks are pasted into the image by
    torchvision's rule, to whole pixels, mmdetection's by positions between them.

    Args:
        source: Path of a checkpoint of mmdetection, or a state dict.
        names: Class names; by default those in the file, else COCO's if there are 80 classes.
        leave: Modules to leave out: `["roi_head.mask_head"]` makes a Mask R-CNN a Faster R-CNN.
        settings: What the tensors do not say; by default what the file's configuration says, else
            the PyTorch style, RGB with the stride in the 3x3 convolution.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It cannot be read, or a tensor or setting has no counterpart in densekit.
    """
    state, recipe = (source, Recipe()) if isinstance(source, Mapping) else read_source(source)
    kept, _ = without_parts(WHERE, state, leave)
    return convert(kept, names, recipe=recipe, settings=settings).model


def convert(
    state: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    *,
    recipe: Recipe = Recipe(),  # noqa: B008 - frozen
    settings: DetectorSettings | None = None,
) -> Conversion:
    """Converts all tensors; see `from_mmdet`.

    Args:
        state: Tensors by name.
        names: See `from_mmdet`.
        recipe: What the file says besides its tensors.
        settings: See `from_mmdet`.
    """
    rename = _renamer(state)
    ours = {rename(name): value for name, value in state.items()}
    two_stage = is_two_stage(WHERE, ours)
    told = settings or settings_of(recipe, two_stage=two_stage, masks=has_masks(ours))
    settings = told.completed(
        stride_in_1x1=False, channel_order="rgb", mean=IMAGENET_MEAN, std=IMAGENET_STD
    )
    backbone = partial(resnet_of(WHERE, ours, norm="frozen"), stride_in_1x1=settings.stride_in_1x1)
    head: partial[Any]
    if two_stage:
        head, changed = faster_rcnn_of(ours, _preset(), settings.detection())
        neck = pyramid_of(ours)
    else:
        head, changed = retinanet_of(ours, mmdet_retinanet(), settings), None
        neck = pyramid_of(ours, extra="conv_backbone_linear")
    info, assumed = settings.info(
        names or recipe.names, head.keywords["num_classes"], antialias=False
    )
    return convert_tensors(
        WHERE,
        Parts(backbone, {HEAD: head}, neck),
        info,
        state,
        rename,
        source=f"mmdetection {NAMES[head.func]}, {resnet_name(backbone)} FPN",
        changed=changed,
        dropped=DROPPED,
        assumed=() if recipe.model else assumed,
    )


def _renamer(state: Mapping[str, Tensor]) -> Callable[[str], str]:
    """Of names by the pyramid's levels: its convolutions are counted from its first level."""
    count = sum(LATERAL.format(number) in state for number in range(4))
    levels = [
        (rf"^neck\.{theirs}\.{number}\.{layer}\.", f"neck.{ours}{number + 6 - count}.{index}.")
        for number in range(count)
        for theirs, ours in (("lateral_convs", "lateral.c"), ("fpn_convs", "output.p"))
        for layer, index in (("conv", 0), ("bn", 1))
    ]
    extra = [(rf"^neck\.fpn_convs\.{count + n}\.conv\.", f"neck.extra.p{n + 6}.") for n in (0, 1)]
    return renamer([*levels, *extra, *_HEAD_NAMES])


_HEAD_NAMES = (
    (r"^bbox_head\.cls_convs\.(\d+)\.conv\.", rf"heads.{HEAD}.cls_convs.\1.0."),
    (r"^bbox_head\.reg_convs\.(\d+)\.conv\.", rf"heads.{HEAD}.box_convs.\1.0."),
    (r"^bbox_head\.retina_cls\.", f"heads.{HEAD}.logits."),
    (r"^bbox_head\.retina_reg\.", f"heads.{HEAD}.deltas."),
    (r"^rpn_head\.rpn_conv\.(\d+)\.conv\.", rf"{RPN_HEAD}.convs.\1."),
    (r"^rpn_head\.rpn_conv\.", f"{RPN_HEAD}.convs.0."),
    (r"^rpn_head\.rpn_cls\.", f"{RPN_HEAD}.logits."),
    (r"^rpn_head\.rpn_reg\.", f"{RPN_HEAD}.deltas."),
    (r"^roi_head\.bbox_head\.shared_fcs\.", f"{BOX_HEAD}.hidden."),
    (r"^roi_head\.bbox_head\.shared_convs\.(\d+)\.conv\.", rf"{BOX_HEAD}.convs.\1.0."),
    (r"^roi_head\.bbox_head\.shared_convs\.(\d+)\.bn\.", rf"{BOX_HEAD}.convs.\1.1."),
    (r"^roi_head\.bbox_head\.fc_cls\.", f"{BOX_HEAD}.logits."),
    (r"^roi_head\.bbox_head\.fc_reg\.", f"{BOX_HEAD}.deltas."),
    (r"^roi_head\.mask_head\.convs\.(\d+)\.conv\.", rf"{MASK_HEAD}.convs.\1.0."),
    (r"^roi_head\.mask_head\.convs\.(\d+)\.bn\.", rf"{MASK_HEAD}.convs.\1.1."),
    (r"^roi_head\.mask_head\.upsample\.", f"{MASK_HEAD}.upsample."),
    (r"^roi_head\.mask_head\.conv_logits\.", f"{MASK_HEAD}.logits."),
)


def _preset() -> dict[str, Any]:
    """Settings of the head: detectron2's, but for the divisor of the RPN's losses."""
    rpn = detectron2_preset()["rpn"]
    return {**detectron2_preset(), "rpn": partial(rpn, sampling=SamplingRule(256, 0.5))}
