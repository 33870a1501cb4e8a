"""Weights whose tensors have other names than in our networks, or are stored otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densekit._extras import need

if TYPE_CHECKING:
    from numpy.typing import NDArray

State = dict[str, Tensor]
EFFICIENTNET_ENDS = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
EFFICIENTNET_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
EFFICIENTNET_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
"""The first block expands nothing."""

RESNET50_BLOCKS = (3, 4, 6, 3)
NORM_EPS = 1e-5
"""What `ResNet` adds to a variance."""


def openmmlab_stem(state: State) -> State:
    """The same tensors with the names of a deep stem, if they have those of OpenMMLab's ResNetV1c.

    Its stem is one sequence, `stem.0` to `stem.7`, of which the last norm is `bn1` here.
    """
    if not any(name.endswith("stem.7.running_var") for name in state):
        return state
    renamed: State = {}
    for name, value in state.items():
        name = re.sub(r"(^|\.)stem\.7\.", r"\1bn1.", name)
        renamed[re.sub(r"(^|\.)stem\.(?=\d\.)", r"\1conv1.", name)] = value
    return renamed


def efficientnet(state: State) -> State:
    """The tensors of an EfficientNet of `efficientnet_pytorch` and its kin, by timm's names."""
    stages, renamed = _efficientnet_stages(state), {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "_blocks":
            number, part = int(parts[1]), parts[2]
            table = EFFICIENTNET_BLOCK if number else EFFICIENTNET_FIRST_BLOCK
            start = f"blocks.{stages[number]}.{table[part]}"
        else:
            start = EFFICIENTNET_ENDS[parts[0]]
        renamed[f"{start}.{parts[-1]}"] = value
    return renamed


def _efficientnet_stages(state: State) -> list[str]:
    """`STAGE.BLOCK` of each block; a stage ends where the number of output channels changes."""
    found: list[str] = []
    stage, block, before = 0, 0, 0
    while (key := f"_blocks.{len(found)}._project_conv.weight") in state:
        channels = len(state[key])
        if found:
            stage, block = (stage, block + 1) if channels == before else (stage + 1, 0)
        found.append(f"{stage}.{block}")
        before = channels
    return found


def caffe_resnet_onnx(path: Path) -> State:
    """The tensors of a ResNet-50 of Caffe, exported from Keras to ONNX, by torchvision's names.

    Its batch norms are stored as a mean, a scale and a shift, which leaves nothing of the
    variances: as norms of variance 1 they are right with constant statistics alone
    (`norm="frozen"`). Its images are BGR, ours RGB: the first convolution is turned round.
    """
    onnx = need("onnx", "These weights", extra="weights")
    graph = onnx.load(str(path), load_external_data=False).graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    arrays |= {
        node.output[0]: arrays[node.input[0]] for node in graph.node if node.op_type == "Identity"
    }
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    state: State = {}
    for (conv, norm), node in zip(_resnet50_names(), convolutions, strict=True):
        state[f"{conv}.weight"] = _tensor(arrays[node.input[1]])
        bias, mean, scale, shift = _constants_after(node, graph, arrays)
        state[f"{norm}.weight"], state[f"{norm}.bias"] = _tensor(scale), _tensor(shift)
        state[f"{norm}.running_mean"] = _tensor(mean - bias)
        state[f"{norm}.running_var"] = torch.full([len(scale)], 1 - NORM_EPS)
    state["conv1.weight"] = state["conv1.weight"].flip(1)
    return state


def _resnet50_names() -> Iterator[tuple[str, str]]:
    """Names of each convolution and its norm in the order in which Keras runs them."""
    yield "conv1", "bn1"
    for stage, count in enumerate(RESNET50_BLOCKS, start=1):
        for block in range(count):
            start = f"layer{stage}.{block}"
            yield f"{start}.conv1", f"{start}.bn1"
            yield f"{start}.conv2", f"{start}.bn2"
            if block == 0:
                yield f"{start}.downsample.0", f"{start}.downsample.1"
            yield f"{start}.conv3", f"{start}.bn3"


def _constants_after(node: Any, graph: Any, arrays: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The constants of the bias and batch norm after a convolution: x + b, - mean, * scale, + s."""
    users = {name: user for user in graph.node for name in user.input}
    found: list[NDArray[Any]] = []
    for expected in ("Add", "Sub", "Mul", "Add"):
        node = users[node.output[0]]
        while node.op_type in ("Cast", "Transpose"):
            node = users[node.output[0]]
        assert node.op_type == expected
        (constant,) = [arrays[name].ravel() for name in node.input if name in arrays]
        found.append(constant)
    return found


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.tensor(array.reshape(array.shape if array.ndim == 4 else -1))
