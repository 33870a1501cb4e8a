"""Frozen norms are batch norms in evaluation, folded once; poolings have the sizes they state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from densekit.layers import (
    CONV,
    FrozenBatchNorm,
    Layers,
    Uninitialised,
    conv_norm,
    max_pool_from_start,
)


def trained_batch_norm(channels: int, spatial_dims: int = 2, eps: float = 1e-5) -> nn.Module:
    norm = Layers(spatial_dims, "batch", eps).normalisation(channels)
    for tensor in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        tensor.uniform_(0.2, 1.5)
    return norm.eval()


def frozen(norm: nn.Module) -> FrozenBatchNorm:
    module = FrozenBatchNorm(len(norm.weight), norm.eps)
    module.load_state_dict(norm.state_dict())
    return module


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_equals_batch_norm(spatial_dims: int) -> None:
    norm = trained_batch_norm(8, spatial_dims, eps=1e-3).double()
    module = frozen(norm).double()
    module.load_state_dict(norm.state_dict())
    conv = CONV[spatial_dims](4, 8, 3, stride=2, padding=1, bias=False).double()
    x = torch.randn(2, 4, *[9] * spatial_dims, dtype=torch.float64)
    torch.testing.assert_close(module(conv(x)), norm(conv(x)), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(conv_norm(conv, module, x), norm(conv(x)), atol=1e-12, rtol=1e-12)


def test_state_dict_is_a_batch_norms() -> None:
    assert list(FrozenBatchNorm(3).state_dict()) == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
    ]


def test_folds_again_in_the_new_dtype() -> None:
    norm = trained_batch_norm(8)
    module = frozen(norm).double()
    exact = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    torch.testing.assert_close(module.scale, exact.detach(), atol=1e-15, rtol=1e-15)
    assert module.bfloat16().scale.dtype == torch.bfloat16


def test_folds_weights_assigned_to_a_module_without_memory() -> None:
    norm = trained_batch_norm(8)
    with torch.device("meta"):
        module = FrozenBatchNorm(8)
    state = {key: value for key, value in norm.state_dict().items() if "tracked" not in key}
    module.load_state_dict(state, assign=True)
    x = torch.randn(2, 8, 4, 4)
    torch.testing.assert_close(module(x), norm(x))
    torch.testing.assert_close(copy.deepcopy(module)(x), norm(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_keeps_the_dtype_of_the_map(dtype: torch.dtype) -> None:
    module = frozen(trained_batch_norm(8))
    assert module(torch.randn(1, 8, 4, 4, dtype=dtype)).dtype == dtype


def test_nothing_is_folded_in_a_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    module = frozen(trained_batch_norm(8))
    monkeypatch.setattr(FrozenBatchNorm, "fold", lambda self: pytest.fail("folded in a forward"))
    module(torch.randn(1, 8, 4, 4))
    conv_norm(nn.Conv2d(8, 8, 1, bias=False), module, torch.randn(1, 8, 4, 4))


def test_keeps_channels_last() -> None:
    conv = nn.Conv2d(4, 8, 3, bias=False).to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 9, 9).contiguous(memory_format=torch.channels_last)
    y: Tensor = conv_norm(conv, frozen(trained_batch_norm(8)), x)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (32, 16), (7, 1), (1, 1)])
def test_group_norm_has_32_groups_where_it_can(channels: int, groups: int) -> None:
    assert Layers(norm="group").normalisation(channels).num_groups == groups


def test_pooling_from_the_first_pixel() -> None:
    torch.manual_seed(0)
    even, odd = torch.randn(2, 3, 8, 14), torch.randn(2, 3, 7, 9)
    expected = nn.functional.max_pool2d(even, 3, 2, ceil_mode=True)
    assert torch.equal(max_pool_from_start(even, 3, 2), expected)
    got = max_pool_from_start(odd, 3, 2)
    assert got.shape[2:] == (4, 5)
    assert torch.equal(got[:, :, :3, :4], nn.functional.max_pool2d(odd, 3, 2))
    assert torch.equal(got[:, :, -1, -1], odd[:, :, -1, -1])


def test_uninitialised_parameters_are_not_drawn_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    with Uninitialised():
        layer = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
        nn.init.kaiming_normal_(layer[0].weight)
        nn.init.xavier_uniform_(layer[1].weight)
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.testing.assert_close(nn.init.ones_(layer[1].bias), torch.ones(2))
        assert torch.empty(1000).normal_().std() > 0.5  # no parameter: a buffer is not loaded
