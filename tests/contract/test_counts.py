"""What a step of every head costs, in counts that do not depend on the machine's load.

Floating-point operations, dispatched operators, reads of device values by the host (those inside
the operator for suppression on CPUs are not seen), and bytes of the tensors alive at once. A change
that needs more than the stored limits fails here; one that needs less should lower them. To print
what every head needs now:

    python -m pytest -n 0 -s tests/contract/test_counts.py
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from densekit import DenseModel
from densekit.heads import (
    ATSS,
    FCN,
    FCOS,
    SSD,
    YOLOX,
    Classification,
    DeepLabV3,
    DeepLabV3Plus,
    Embedding,
    FasterRCNN,
    MaskRCNN,
    PSPNet,
    RetinaNet,
    SemanticFPN,
    UNet,
    UPerNet,
)
from densekit.heads.faster_rcnn import BoxHead, CascadeBoxHead, MaskHead
from densekit.testing.samples import synthetic_info, synthetic_samples
from densekit.testing.subject import Subject

CLASSES = 3
HOST_READS = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_consecutive",
    "aten::equal",
    "aten::is_nonzero",
}


class Counts(NamedTuple):
    """Millions of floating-point operations, operators, host reads, and KiB alive at once."""

    mflop: int
    operators: int
    host_reads: int
    kib: int


class Cost(TorchDispatchMode):
    """Counts operators, host reads and the bytes of living tensors while it is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators = self.host_reads = self.alive = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operators += 1
        self.host_reads += func._schema.name in HOST_READS
        given = {x.untyped_storage()._cdata for x in _tensors((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            self._track(tensor.untyped_storage(), given)
        return out

    def _track(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in given or key in self.known:
            return
        self.known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def counts(run: Callable[[], object]) -> Counts:
    """Counts what a second run needs: the first fills caches of anchors and the like."""
    run()
    with FlopCounterMode(display=False) as flops:
        run()
    with Cost() as cost:
        run()
    mflop = round(flops.get_total_flops() / 1e6)
    return Counts(mflop, cost.operators, cost.host_reads, cost.peak // 1024)


SMALL_BOX_HEAD = partial(BoxHead, hidden=(32, 32))
HEADS: dict[str, Callable[..., Any]] = {
    "atss": partial(ATSS, num_classes=CLASSES),
    "cascade_rcnn": partial(
        FasterRCNN,
        num_classes=CLASSES,
        box_head=partial(CascadeBoxHead, stage=SMALL_BOX_HEAD),
    ),
    "classification": partial(Classification, num_classes=CLASSES),
    "deeplabv3": partial(DeepLabV3, num_classes=CLASSES, channels=16),
    "deeplabv3plus": partial(DeepLabV3Plus, num_classes=CLASSES, channels=16),
    "embedding": partial(Embedding, num_identities=4, embedding_size=16),
    "faster_rcnn": partial(FasterRCNN, num_classes=CLASSES, box_head=SMALL_BOX_HEAD),
    "fcn": partial(FCN, num_classes=CLASSES),
    "fcos": partial(FCOS, num_classes=CLASSES),
    "mask_rcnn": partial(
        MaskRCNN,
        num_classes=CLASSES,
        box_head=SMALL_BOX_HEAD,
        mask_head=partial(MaskHead, convs=(32, 32)),
    ),
    "pspnet": partial(PSPNet, num_classes=CLASSES),
    "retinanet": partial(RetinaNet, num_classes=CLASSES),
    "semantic_fpn": partial(SemanticFPN, num_classes=CLASSES, channels=16),
    "ssd": partial(SSD, num_classes=CLASSES, extra_channels=(32, 16, 16)),
    "unet": partial(UNet, num_classes=CLASSES),
    "upernet": partial(UPerNet, num_classes=CLASSES, channels=16),
    "yolox": partial(YOLOX, num_classes=CLASSES, channels=16),
}
TRAIN = {
    "atss": Counts(213, 1856, 0, 4114),
    "cascade_rcnn": Counts(1169, 2495, 0, 49899),
    "classification": Counts(123, 345, 0, 3498),
    "deeplabv3": Counts(128, 508, 0, 3780),
    "deeplabv3plus": Counts(168, 514, 0, 3578),
    "embedding": Counts(123, 492, 0, 3505),
    "faster_rcnn": Counts(538, 1552, 0, 24136),
    "fcn": Counts(127, 413, 0, 3678),
    "fcos": Counts(213, 1710, 0, 4114),
    "mask_rcnn": Counts(709, 1906, 1, 24310),
    "pspnet": Counts(131, 500, 0, 3887),
    "retinanet": Counts(229, 1155, 0, 4174),
    "semantic_fpn": Counts(200, 538, 0, 3782),
    "ssd": Counts(139, 734, 0, 3985),
    "unet": Counts(1689, 530, 0, 11143),
    "upernet": Counts(167, 619, 0, 3755),
    "yolox": Counts(144, 989, 0, 3751),
}
PREDICT = {
    "atss": Counts(74, 455, 0, 390),
    "cascade_rcnn": Counts(693, 1141, 1, 26394),
    "classification": Counts(44, 135, 0, 384),
    "deeplabv3": Counts(45, 138, 0, 384),
    "deeplabv3plus": Counts(47, 162, 0, 700),
    "embedding": Counts(44, 143, 0, 384),
    "faster_rcnn": Counts(2059, 883, 2, 49642),
    "fcn": Counts(45, 109, 0, 384),
    "fcos": Counts(74, 435, 0, 384),
    "mask_rcnn": Counts(2059, 883, 2, 49642),
    "pspnet": Counts(46, 142, 0, 384),
    "retinanet": Counts(80, 378, 0, 828),
    "semantic_fpn": Counts(70, 167, 0, 534),
    "ssd": Counts(49, 237, 0, 447),
    "unet": Counts(566, 184, 0, 2300),
    "upernet": Counts(58, 181, 0, 646),
    "yolox": Counts(51, 298, 0, 384),
}
SLACK = 1.03
"""Versions of torch differ by an operator here and there."""


def subject(name: str) -> Subject:
    return Subject(HEADS[name], synthetic_samples(CLASSES), {}, synthetic_info(CLASSES))


def prepared(name: str) -> tuple[DenseModel, Any]:
    case = subject(name)
    model = case.model()
    return model, case.batch(case.samples[:2])


def check(name: str, found: Counts, limits: dict[str, Counts]) -> None:
    print(f'    "{name}": Counts{tuple(found)},')
    limit = limits[name]
    more = [key for key in Counts._fields if getattr(found, key) > getattr(limit, key) * SLACK]
    assert not more, f"{name} needs more {', '.join(more)}: {found}, at most {limit}"


@pytest.mark.parametrize("name", HEADS)
def test_a_training_step(name: str) -> None:
    model, batch = prepared(name)

    def step() -> None:
        model.zero_grad()
        sum(model.loss(batch).values()).backward()

    check(name, counts(step), TRAIN)


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_a_prediction(name: str) -> None:
    model, batch = prepared(name)
    model.eval()

    check(name, counts(lambda: model.predict(batch)), PREDICT)


@pytest.mark.slow
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("step", [DenseModel.loss, DenseModel.predict])
def test_one_graph_and_no_recompilation(step: Callable[..., Any], name: str) -> None:
    model, batch = prepared(name)
    case = subject(name)
    model.train(step is DenseModel.loss)
    other = case.batch(case.samples[2:4])
    torch.compiler.reset()
    compiled = torch.compile(step, backend="eager", fullgraph=True, dynamic=False)

    with torch.set_grad_enabled(model.training):
        compiled(model, batch)
        with torch.compiler.set_stance("fail_on_recompile"):
            compiled(model, other)
