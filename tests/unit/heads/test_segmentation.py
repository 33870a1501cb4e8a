"""Every segmentation head: any task, any size, any batch; what it keeps, compiles and exports."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densekit.backbones import ResNet
from densekit.heads import FCN, DeepLabV3, SmpHead, UNet
from densekit.heads.segmentation import Segmentation, Supervised
from densekit.inference.restore import restore
from densekit.losses import Dice, PixelCrossEntropy
from densekit.model import DenseModel
from densekit.necks import FPN
from densekit.types import Features, FeatureSpec
from tests.unit.heads.segmentation_cases import SMALL, batch, model, without_gradient

TASKS = {
    "binary": {"num_classes": 1, "multilabel": False},
    "multiclass": {"num_classes": 3, "multilabel": False},
    "multilabel": {"num_classes": 3, "multilabel": True},
}


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", SMALL)
def test_trains_and_predicts_on_odd_sizes(name: str, task: str) -> None:
    kind = TASKS[task]
    network = model(name, **kind)
    data = batch(**kind)  # type: ignore[arg-type]
    losses = network.loss(data)
    assert all(value.shape == () and value > 0 for value in losses.values())
    total(losses).backward()
    assert without_gradient(network) == []
    with torch.no_grad():
        predictions = network.eval().predict(data)
        logits = predictions["segmentation"][
            "multilabel_logits" if kind["multilabel"] else "logits"
        ]
    padded = [-(-side // network.size_divisor) * network.size_divisor for side in (65, 97)]
    assert logits.shape == (2, kind["num_classes"], *padded)
    data["meta"] = [{"original_size": (65, 97)}, {"original_size": (124, 194)}]
    masks = [result["segmentation"]["mask"] for result in restore(predictions, data)]
    planes = (3,) if kind["multilabel"] else ()
    assert [mask.shape for mask in masks] == [(*planes, 65, 97), (*planes, 124, 194)]
    assert masks[0].max() <= max(1, kind["num_classes"] - 1)


@pytest.mark.parametrize("name", SMALL)
def test_one_image_and_nothing_to_learn(name: str) -> None:
    network = model(name)
    data = batch((64, 96), count=1)
    data["mask"].fill_(255)
    losses = network.loss(data)
    assert float(total(losses).detach()) == 0
    total(losses).backward()
    assert without_gradient(network) == []
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", SMALL)
def test_padding_changes_no_loss(name: str) -> None:
    # Collate's padding and the model's are ignored: the sum over counted pixels is all there is.
    network = model(name).eval()
    data = batch((64, 96))
    with torch.no_grad():
        features = network.features(data)
        head: Any = network.heads["segmentation"]
        outputs = head.supervised(features)
        term = head.loss(features, data)["ce"]
        logits = head._to_size(outputs[0].logits, (64, 96))
        expected = nn.functional.cross_entropy(logits, data["mask"].long(), ignore_index=255)
    torch.testing.assert_close(term, expected * outputs[0].weight)


def test_mask_of_an_image_that_the_model_pads() -> None:
    network = model("smp_fpn")
    assert network.size_divisor == 32
    data = batch((65, 97))
    whole = nn.functional.pad(data["mask"], (0, 31, 0, 31), value=255)
    features = network.eval().features(data)
    head: Any = network.heads["segmentation"]
    given = head.loss(features, data)["ce"]
    assert features["c0"].shape[2:] == (96, 128)
    torch.testing.assert_close(given, head.loss(features, {**data, "mask": whole})["ce"])


@pytest.mark.parametrize("spatial_dims", [1, 3])
@pytest.mark.parametrize("name", [n for n in SMALL if SMALL[n][0] not in (SmpHead, UNet)])
def test_series_and_volumes(name: str, spatial_dims: int) -> None:
    make, settings = SMALL[name]
    backbone = ResNet(18, width=8, in_channels=1, spatial_dims=spatial_dims, stem="full")
    head = partial(make, num_classes=3, **settings)
    info = {"mean": [0.0], "std": [1.0]}
    network = DenseModel(backbone, {"segmentation": head}, partial(FPN, out_channels=8), info)
    data = batch((17, 19, 9)[:spatial_dims], channels=1)
    total(network.loss(data)).backward()
    assert without_gradient(network) == []
    with torch.no_grad():
        logits = network(data["image"], data["size"])["segmentation"]["logits"]
    divisor = network.size_divisor  # more than 1 with a pyramid
    assert logits.shape == (2, 3, *(-(-s // divisor) * divisor for s in data["image"].shape[2:]))


def test_several_losses_with_weights() -> None:
    losses = {"ce": PixelCrossEntropy(), "dice": Dice()}
    network = model("fcn", losses=losses, loss_weights={"dice": 0.5}).eval()
    terms = network.loss(batch())
    assert list(terms) == [
        "segmentation/ce",
        "segmentation/dice",
        "segmentation/aux_ce",
        "segmentation/aux_dice",
    ]
    plain = model("fcn", losses=losses)
    plain.load_state_dict(network.state_dict())
    for name, factor in {"ce": 1.0, "dice": 0.5, "aux_ce": 1.0, "aux_dice": 0.5}.items():
        other = plain.eval().loss(batch())[f"segmentation/{name}"]
        torch.testing.assert_close(terms[f"segmentation/{name}"], factor * other)


def test_deep_supervision_compares_with_the_mask_at_its_size() -> None:
    network = model("unet_deep").eval()
    data = batch((64, 64))
    data["mask"] = torch.zeros(2, 64, 64, dtype=torch.uint8)
    data["mask"][:, ::2] = 1  # every row of even number, which nearest neighbours at 2 do not see
    head: Any = network.heads["segmentation"]
    outputs = head.supervised(network.features(data))
    assert [(o.name, tuple(o.logits.shape[2:])) for o in outputs] == [
        ("", (64, 64)),
        ("c1", (32, 32)),
        ("c2", (16, 16)),
        ("c3", (8, 8)),
    ]
    assert sum(o.weight for o in outputs) == pytest.approx(1)
    assert [o.weight / outputs[0].weight for o in outputs] == [1, 0.5, 0.25, 0.125]
    term = network.loss(data)["segmentation/c1_ce"]
    small = data["mask"][:, 1::2, 1::2].long()
    expected = nn.functional.cross_entropy(outputs[1].logits, small)
    torch.testing.assert_close(term, expected * outputs[1].weight)


class Coarse(Segmentation):
    """Logits at a stride of 8, of a parameter alone."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(4, **settings)
        self.reads = ("c0",)
        self.weight = nn.Parameter(torch.randn(4))

    def low_resolution(self, features: Features) -> Tensor:
        image = features["c0"].mean(1, keepdim=True)
        return nn.functional.avg_pool2d(image, 8) * self.weight.view(1, 4, 1, 1)


@pytest.mark.parametrize("count", [1, 2, 3], ids="{}_losses".format)
def test_one_map_of_full_size_is_kept_for_backward(count: int) -> None:
    losses = {
        f"loss{i}": kind for i, kind in enumerate([PixelCrossEntropy(), Dice(), Dice(batch=True)])
    }
    head = Coarse(losses=dict(list(losses.items())[:count]))
    features = {"c0": torch.randn(2, 3, 64, 64)}
    data: Any = {"mask": torch.randint(0, 4, (2, 64, 64), dtype=torch.uint8)}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = head.loss(features, data)
    full = 2 * 4 * 64 * 64 * 4
    assert sum(kept.values()) <= full + full // 16  # and what is small: masks, sums, coarse logits
    total(terms).backward()
    assert head.weight.grad is not None
    assert head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "name", ["unet_deep", "fcn_mmseg", "deeplabv3plus_mmseg", "upernet", "semantic_fpn", "smp_fpn"]
)
def test_loss_is_one_graph(name: str) -> None:
    network = model(name).eval()
    data = batch((64, 64))
    compiled = torch.compile(type(network).loss, fullgraph=True, backend="eager")
    found, expected = compiled(network, data), network.loss(data)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "name",
    ["unet", "deeplabv3", "deeplabv3plus", "pspnet", "upernet", "semantic_fpn", "smp_pspnet"],
)
def test_forward_is_exported(name: str) -> None:
    network = model(name).eval()
    data = batch((65, 97))
    image, size = data["image"], data["size"]
    program = torch.export.export(network, (image, size))
    found = program.module()(image, size)["segmentation"]["logits"]
    torch.testing.assert_close(found, network(image, size)["segmentation"]["logits"])


@pytest.mark.parametrize("multilabel", [False, True])
def test_metrics_are_of_what_the_data_says(multilabel: bool) -> None:
    head: Any = model("unet", multilabel=multilabel).heads["segmentation"]
    made = head.make_metrics({"names": ("a", "b", "c"), "background": True})
    mask = np.ones((3, 4, 4) if multilabel else (4, 4), np.uint8)
    made["iou"].update([{"mask": mask}], [{"image_id": 1, "size": (4, 4), "mask": mask}])
    assert set(made) == {"iou", "calibration"}
    assert made["iou"].compute()["mIoU"] == 1


SPECS = {"c0": FeatureSpec(3, (1, 1)), "c1": FeatureSpec(4, (2, 2)), "c2": FeatureSpec(8, (4, 4))}
DEEP = {f"c{n}": FeatureSpec(8, (2**n, 2**n)) for n in range(6)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UNet(SPECS, 0), "num_classes: expected 1 to 255, got 0"),
        (lambda: UNet(SPECS, 300), "num_classes: expected 1 to 255, got 300"),
        (lambda: UNet(SPECS, 2), "depth: expected 1 to 2, a level of the backbone, got 5"),
        (
            lambda: UNet(DEEP, 2, depth=3, finest=3),
            "finest: expected 0 to 2, less than depth, got 3",
        ),
        (lambda: UNet(DEEP, 2, decoder_channels=(8, 8)), "decoder_channels: expected 5 numbers"),
        (lambda: UNet(DEEP, 2, norm="batc"), "did you mean 'batch'"),
        (lambda: UNet(DEEP, 2, loss_weights={"cee": 1}), "loss_weights.cee: .* did you mean 'ce'"),
        (lambda: FCN(DEEP, 2, num_convs=0), "num_convs: expected at least 1, got 0"),
        (lambda: DeepLabV3(DEEP, 2, project_kernel=5), "project_kernel: expected 1 or 3, got 5"),
        (lambda: model("deeplabv3plus", decoder_convs=0), "decoder_convs: expected at least 1"),
        (lambda: model("fcn", level="c6"), "heads.segmentation: expected levels .* got c6"),
        (lambda: model("fcn", aux_level="c7"), "heads.segmentation: expected levels .* got c7"),
        (lambda: model("upernet", skip_levels=["c8"]), "expected levels .* got c8"),
        (lambda: SmpHead(DEEP, 2, "unetplus"), "did you mean 'unetplusplus'"),
        (lambda: SmpHead(DEEP, 2, "fpn", pyramid_chanels=8), "did you mean 'pyramid_channels'"),
        (
            lambda: SmpHead(DEEP, 2, "fpn", encoder_depth=4),
            "decoder.encoder_depth: expected one of",
        ),
        (lambda: SmpHead(DEEP, 2, "fpn", depth=2), "depth: expected 3 to 5, got 2"),
        (lambda: SmpHead(DEEP | {"c5": DEEP["c4"]}, 2, "manet"), "backbone.stem=imagenet"),
        (lambda: SmpHead(DEEP, 2, "deeplabv3plus"), "output_stride=16 or 8"),
        (
            lambda: SmpHead({"c0": FeatureSpec(1, (1,) * 3)}, 2, "fpn"),
            "expected 2 spatial dimensions, got 3",
        ),
    ],
)
def test_errors_say_what_is_accepted(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_pan_says_that_an_image_is_too_small() -> None:
    with pytest.raises(ValueError, match="decoder 'pan': expected at least 8 pixels per side"):
        model("pan").loss(batch((32, 32)))


def test_supervised_is_the_output_alone_by_default() -> None:
    logits = torch.zeros(1)
    assert Supervised(logits) == (logits, "", 1.0, True)


@pytest.mark.parametrize("depth", [3, 5])
@pytest.mark.parametrize(
    ("decoder", "settings"),
    [
        ("unet", {"attention_type": "scse"}),
        ("unet", {"attention_type": "scse", "add_center_block": True, "use_norm": "identity"}),
        ("unetplusplus", {"attention_type": "scse"}),
        ("unetplusplus", {"attention_type": "scse", "center": True}),
        ("manet", {"use_norm": False}),
        ("fpn", {"merge_policy": "cat"}),
        ("deeplabv3", {"aspp_separable": True}),
        *((name, {}) for name in ("linknet", "pspnet", "upernet", "segformer")),
    ],
)
def test_every_parameter_of_smp_learns(decoder: str, settings: dict[str, Any], depth: int) -> None:
    if decoder.startswith("unet") or decoder == "manet":
        settings = {**settings, "decoder_channels": [32, 16, 16, 16, 16][:depth]}
    widths = (3, 16, 16, 16, 32, 32)
    specs = {f"c{n}": FeatureSpec(width, (2**n,) * 2) for n, width in enumerate(widths)}
    head = SmpHead(specs, 2, decoder, depth=depth, **settings)
    levels = {
        name: torch.randn(2, spec.channels, 64 // spec.stride[0], 64 // spec.stride[0])
        for name, spec in specs.items()
    }
    head.low_resolution(levels).square().mean().backward()
    assert [name for name, p in head.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("decoder", ["unet", "unetplusplus"])
def test_what_smp_never_runs_is_left_out_of_what_is_loaded(decoder: str) -> None:
    specs = {f"c{n}": FeatureSpec(16 if n else 3, (2**n,) * 2) for n in range(6)}
    place = SmpHead(specs, 2, decoder).decoder
    settings = {"attention_type": "scse", "decoder_channels": (64, 32, 32, 16, 16)}
    head = SmpHead(specs, 2, decoder, **settings)
    assert head.unused
    theirs = type(place)([specs[f"c{n}"].channels for n in range(6)], n_blocks=5, **settings)
    state = {f"decoder.{name}": value for name, value in theirs.state_dict().items()}
    state |= {f"segmentation_head.{k}": v for k, v in head.segmentation_head.state_dict().items()}
    assert any(name.startswith(head.unused) for name in state)
    nn.ModuleDict({"a": head}).load_state_dict({f"a.{name}": v for name, v in state.items()})
    levels = [
        torch.randn(2, specs[f"c{n}"].channels, 64 // 2**n, 64 // 2**n, requires_grad=True)
        for n in range(6)
    ]
    torch.testing.assert_close(head.eval().decoder(levels), theirs.eval()(levels))
