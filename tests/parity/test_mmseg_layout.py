"""mmsegmentation's tensors in its own networks and in ours: the same logits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from densekit.artifact import model_from_artifact
from densekit.heads import FCN, DeepLabV3, DeepLabV3Plus, PSPNet, UPerNet
from densekit.interop import convert as from_any_source
from densekit.interop import from_mmseg
from densekit.interop.mmseg import convert
from densekit.interop.mmseg_settings import MmsegSettings, settings_of
from densekit.interop.openmmlab import Recipe, recipe_of
from tests.parity import mmseg_reference as mmseg

pytestmark = pytest.mark.parity

CLASSES = 5
D8 = {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}
D16 = {"strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2)}
D32 = {"strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1)}
DECODERS: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "fcn": (mmseg.FCNHead, {}, FCN),
    "pspnet": (mmseg.PSPHead, {}, PSPNet),
    "deeplabv3": (mmseg.ASPPHead, {}, DeepLabV3),
    "deeplabv3plus": (mmseg.DepthwiseSeparableASPPHead, {"c1_channels": 3}, DeepLabV3Plus),
    "upernet": (mmseg.UPerHead, {}, UPerNet),
}


def build(
    name: str,
    depth: int = 18,
    *,
    base: int = 8,
    channels: int = 8,
    num_classes: int = CLASSES,
    deep_stem: bool = True,
    aux: dict[str, Any] | None = None,
    backbone: dict[str, Any] | None = None,
    **settings: Any,
) -> mmseg.EncoderDecoder:
    make, own, _ = DECODERS[name]
    strides = D32 if name == "upernet" else D8
    widths = [base * 2**n * (4 if depth >= 50 else 1) for n in range(4)]
    aux = {"index": 2, "num_convs": 1, "concat_input": False} if aux is None else aux
    model = mmseg.EncoderDecoder(
        mmseg.ResNet(depth, base, deep_stem, **{**strides, **(backbone or {})}),
        make(widths, channels, num_classes, **{**own, **settings}),
        mmseg.FCNHead(widths, channels // 2, num_classes, **aux) if aux else None,
    )
    mmseg.randomise(model)
    return model.eval()


def assert_equal(theirs: nn.Module, ours: Any, sides: tuple[int, int] = (65, 97)) -> None:
    image = torch.randint(0, 256, (1, 3, *sides), dtype=torch.uint8)
    mean, std = (torch.tensor(ours.info[key]).view(3, 1, 1) for key in ("mean", "std"))
    given = image if ours.info["channel_order"] == "rgb" else image.flip(1)
    with torch.no_grad():
        expected = theirs((given - mean) / std)
        batch: Any = {"image": image, "size": torch.tensor([sides])}
        outputs = ours.heads["segmentation"].supervised(ours.features(batch))
        found = [ours.heads["segmentation"]._to_size(one.logits, sides) for one in outputs]
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, float(other.abs().max()))
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("name", DECODERS)
def test_logits_are_equal(name: str, depth: int) -> None:
    theirs = build(name, depth)
    found = convert(theirs.state_dict())
    assert type(found.model.heads["segmentation"]) is DECODERS[name][2]
    assert set(found.mapped.values()) == set(theirs.state_dict())
    assert not found.left
    assert_equal(theirs, found.model)


@pytest.mark.parametrize("name", ["fcn", "upernet"])
def test_a_plain_stem(name: str) -> None:
    theirs = build(name, deep_stem=False)
    assert_equal(theirs, from_mmseg(theirs.state_dict()))


@pytest.mark.parametrize("name", DECODERS)
def test_corners_are_aligned_where_the_configuration_says_so(name: str) -> None:
    theirs = build(name, align_corners=True, aux={})
    settings = MmsegSettings(align_corners=True)
    assert_equal(theirs, from_mmseg(theirs.state_dict(), settings=settings), (49, 81))


@pytest.mark.parametrize(
    ("depth", "backbone", "settings"),
    [
        (101, {**D16, "multi_grid": (1, 2, 4)}, {"output_stride": 16, "multi_grid": (1, 2, 4)}),
        (18, D16, {"output_stride": 16}),
        (50, {"contract_dilation": False}, {"dilate_first_block": True}),
        (50, {"style": "caffe", **D32}, {"stride_in_1x1": True, "output_stride": 32}),
    ],
    ids=["d16_multi_grid", "d16", "not_contracted", "caffe"],
)
def test_other_backbones(depth: int, backbone: dict[str, Any], settings: dict[str, Any]) -> None:
    theirs = build("deeplabv3", depth, backbone=backbone, base=4, dilations=(1, 6, 12, 18))
    known = MmsegSettings(rates=(6, 12, 18), **settings)
    assert_equal(theirs, from_mmseg(theirs.state_dict(), settings=known))


@pytest.mark.parametrize("concat_input", [True, False])
@pytest.mark.parametrize("num_convs", [1, 3])
def test_other_fcns(num_convs: int, concat_input: bool) -> None:
    theirs = build("fcn", num_convs=num_convs, concat_input=concat_input, dilation=6, index=2)
    known = MmsegSettings(fcn_dilation=6)
    assert_equal(theirs, from_mmseg(theirs.state_dict(), settings=known))


def test_other_grids() -> None:
    theirs = build("pspnet", pool_scales=(1, 4))
    known = MmsegSettings(scales=(1, 4))
    assert_equal(theirs, from_mmseg(theirs.state_dict(), settings=known))


@pytest.mark.slow
@pytest.mark.parametrize("name", DECODERS)
def test_at_full_size(name: str) -> None:
    settings = {"c1_channels": 48} if name == "deeplabv3plus" else {}
    theirs = build(name, 50, base=64, channels=512, num_classes=19, **settings)
    found = convert(theirs.state_dict())
    assert set(found.mapped.values()) == set(theirs.state_dict())
    assert_equal(theirs, found.model, (129, 193))


CONFIG = """
crop_size = (512, 1024)
model = dict(
    auxiliary_head=dict(
        align_corners=False, channels=4, concat_input=False, in_channels=32, in_index=2,
        loss_decode=dict(loss_weight=0.2, type='CrossEntropyLoss'), num_convs=1, type='FCNHead'),
    backbone=dict(
        contract_dilation=True, depth=18, dilations=(1, 1, 1, 2), multi_grid=(2, 4),
        norm_cfg=dict(requires_grad=True, type='SyncBN'), strides=(1, 2, 2, 1), type='ResNetV1c'),
    data_preprocessor=dict(
        bgr_to_rgb=False, mean=[10.0, 20.0, 30.0], std=[2.0, 3.0, 4.0], type='SegDataPreProcessor'),
    decode_head=dict(
        align_corners=True, channels=8, dilations=(1, 2, 3), dropout_ratio=0.3,
        type='ASPPHead'),
    test_cfg=dict(crop_size=(769, 769), mode='slide', stride=(513, 513)),
    type='EncoderDecoder')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=(2048, 512), type='Resize'),
    dict(type='PackSegInputs'),
]
"""


def test_a_checkpoint_says_what_its_tensors_do_not(tmp_path: Path) -> None:
    theirs = build(
        "deeplabv3",
        aux={"index": 2, "num_convs": 1, "concat_input": False, "align_corners": True},
        backbone={**D16, "multi_grid": (2, 4)},
        dilations=(1, 2, 3),
        align_corners=True,
    )
    names = ("background", "road", "tree", "car", "sky")
    meta = {"cfg": CONFIG, "dataset_meta": {"classes": names, "palette": [[0, 0, 0]] * 5}}
    torch.save({"meta": meta, "state_dict": theirs.state_dict()}, tmp_path / "a.pth")
    ours = from_mmseg(tmp_path / "a.pth")
    assert_equal(theirs, ours)
    described = ours.info["heads"]["segmentation"]
    assert (described["names"], described["ids"]) == (list(names), [0, 1, 2, 3, 4])
    assert described["background"]
    assert ours.info["resize"] == {"min_size": 512, "max_size": 2048, "rounded": True}
    assert (ours.info["mean"], ours.info["std"]) == ([10, 20, 30], [2, 3, 4])
    assert ours.info["channel_order"] == "bgr"
    head: Any = ours.heads["segmentation"]
    assert (head.aux_weight, head.classifier[0].project[-1].p) == (0.2, 0.3)
    assumed = convert(theirs.state_dict(), recipe=recipe_of(meta)).assumed
    assert len(assumed) == 1
    assert "windows of 769 x 769 pixels with a stride of (513, 513)" in assumed[0]


def test_the_example_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = {**D16, "multi_grid": (1, 2, 4)}
    theirs = build("deeplabv3", 101, backbone=backbone, base=4, dilations=(1, 6, 12, 18))
    torch.save(theirs.state_dict(), tmp_path / "deeplabv3_r101-d16-mg124.pth")
    page = (Path(__file__).parents[2] / "docs/segmentation.md").read_text()
    block = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)[-1]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(block, names)
    assert_equal(theirs, names["model"])


def test_a_saved_model_is_the_same(tmp_path: Path) -> None:
    theirs = build("deeplabv3plus")
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "theirs.pth")
    from_any_source(tmp_path / "theirs.pth").save(tmp_path / "ours.ckpt")
    assert_equal(theirs, model_from_artifact(tmp_path / "ours.ckpt").eval())


def test_a_configuration_before_version_1() -> None:
    steps = [
        {"type": "Resize", "keep_ratio": True},
        {"type": "Normalize", "mean": [1.0, 2, 3], "std": [4.0, 5, 6], "to_rgb": True},
    ]
    pipeline = [{"type": "MultiScaleFlipAug", "img_scale": (2048, 1024), "transforms": steps}]
    found = settings_of(Recipe(model={"type": "EncoderDecoder"}, test_pipeline=pipeline))
    assert (found.mean, found.std, found.channel_order) == ((1, 2, 3), (4, 5, 6), "rgb")
    assert (found.min_size, found.max_size) == (1024, 2048)


def test_images_that_are_not_normalised() -> None:
    model = {"backbone": {"in_channels": 2}, "data_preprocessor": {"bgr_to_rgb": True}}
    found = settings_of(Recipe(model=model))
    assert (found.mean, found.std, found.channel_order) == ((0, 0), (1, 1), "rgb")


def test_images_that_are_padded() -> None:
    preprocessor = {"rgb_to_bgr": True, "test_cfg": {"size_divisor": 32}}
    found = settings_of(Recipe(model={"data_preprocessor": preprocessor}))
    assert found.channel_order == "rgb"
    assert "pads them to {'size_divisor': 32}" in found.notes[0]


def test_what_is_assumed_is_said() -> None:
    theirs = build("pspnet", num_classes=1)
    found = convert(theirs.state_dict(), ["cell"])
    assert found.source == "mmsegmentation PSPNet, ResNet-18"
    text = "; ".join(found.assumed)
    for part in ("stride is 8", "1, 2, 3, 6 cells per axis", "images are RGB", "above 0.3"):
        assert part in text
    known = convert(theirs.state_dict(), settings=MmsegSettings(output_stride=16))
    assert known.assumed == ("a pixel counts above 0.5, in mmsegmentation above 0.3",)


@pytest.mark.parametrize("model", [{}, {"backbone": D8}], ids=["tensors", "configured"])
def test_annotations_whose_zero_is_ignored_keep_their_values(model: dict[str, Any]) -> None:
    names = ["wall", "building", "sky", "floor", "tree"]
    recipe = Recipe(model=model, names=names, skips_zero=True)
    found = convert(build("fcn").state_dict(), recipe=recipe)
    described = found.model.info["heads"]["segmentation"]
    assert described["ids"] == [1, 2, 3, 4, 5]
    assert not described["background"]


def test_a_dilated_auxiliary_head_is_left() -> None:
    theirs = build("fcn", aux={"index": 2, "num_convs": 1, "concat_input": False, "dilation": 6})
    found = convert(theirs.state_dict(), settings=MmsegSettings(aux_dilation=6))
    assert {name.split(".")[0] for name in found.left} == {"auxiliary_head"}


@pytest.mark.parametrize(
    "aux",
    [
        {"index": 2, "num_convs": 2, "concat_input": False},
        {"index": 2, "num_convs": 1, "concat_input": True},
    ],
)
def test_an_auxiliary_head_of_another_form_is_left(aux: dict[str, Any]) -> None:
    theirs = build("deeplabv3plus", aux=aux)
    found = convert(theirs.state_dict())
    assert all(name.startswith("auxiliary_head.") for name in found.left)
    assert len(found.left) + len(found.mapped) == len(theirs.state_dict())
    theirs.auxiliary_head = None
    assert_equal(theirs, found.model)


FIRST = "decode_head.convs.0.conv.weight"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"backbone.layer1.0.plugin": torch.ones(1)}, "without a place: backbone.layer1.0.plugin"),
        ({"decode_head.convs.1.bn.bias": None}, "missing: heads.segmentation.classifier.0.4.bias"),
        ({"decode_head.conv_cat.conv.weight": torch.ones(8, 72, 1, 1)}, "of another shape"),
        ({FIRST: torch.ones(8, 120, 3, 3)}, "of 8 or 16 or 32 or 64 channels, got 120"),
    ],
)
def test_tensors_without_a_counterpart_are_refused(changed: dict[str, Any], message: str) -> None:
    state = {**build("fcn").state_dict(), **changed}
    with pytest.raises(ValueError, match=f"from_mmseg: .*{message}"):
        convert({name: value for name, value in state.items() if value is not None})


def test_other_networks_are_refused() -> None:
    logits = {"decode_head.conv_seg.weight": torch.ones(2, 8, 1, 1)}
    with pytest.raises(ValueError, match="expected a ResNet as backbone, got .*patch_embed"):
        convert({**logits, "backbone.patch_embed.weight": torch.ones(1)})
    state = {n: v for n, v in build("fcn").state_dict().items() if ".convs." not in n}
    state["decode_head.query_project.weight"] = torch.ones(1)
    with pytest.raises(ValueError, match="UPerNet, got one of conv_cat, conv_seg, query_project"):
        convert(state)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"backbone": {"type": "ResNetV1d"}},
            r"model\.backbone\.type: .* got 'ResNetV1d'",
        ),
        (
            {"decode_head": {"type": "DAHead"}},
            r"model\.decode_head\.type: .* 'DAHead'",
        ),
        ({"backbone": {"conv_cfg": {"type": "ConvWS"}}}, r"model\.backbone\.conv_cfg"),
        (
            {"decode_head": {"norm_cfg": {"eps": 0.001}}},
            r"decode_head\.norm_cfg\.eps: .* 0.001",
        ),
        ({"decode_head": {"act_cfg": {"type": "GELU"}}}, r"decode_head\.act_cfg"),
        ({"decode_head": {"input_transform": "resize_concat"}}, r"decode_head\.input_transform"),
        ({"backbone": {"strides": (1, 1, 1, 1)}}, "expected strides and dilations of"),
        ({"backbone": {"dilations": (1, 1, 2, 4)}}, "expected strides and dilations of"),
        ({"decode_head": {"dilations": (6, 12)}}, "dilations: expected 1 first"),
        ({"decode_head": {"dilations": 3}}, "from_mmseg: .* cannot be understood"),
        ({"decode_head": {"dropout_ratio": "high"}}, "from_mmseg: .* cannot be understood"),
        ({"test_cfg": {"mode": "slide"}}, "from_mmseg: .* cannot be understood"),
    ],
)
def test_settings_without_a_counterpart_are_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        settings_of(Recipe(model=model))
