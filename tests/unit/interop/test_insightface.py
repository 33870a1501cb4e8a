"""arcface_torch's iResNets convert with their embedding."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from densekit import Predictor
from densekit.backbones import IResNet
from densekit.interop import convert, from_insightface
from tests.unit.backbones.test_iresnet import body, filled, head, reference


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_embedding_is_that_of_arcface_torch(prefix: str) -> None:
    state = filled(body(18)) | filled(head())
    image = torch.randint(0, 256, (3, 112, 112), dtype=torch.uint8)

    found = convert({prefix + key: value for key, value in state.items()})

    assert len(found.mapped) == len(state)
    assert not found.left
    (ours,) = Predictor(found.model).head("embedding")([image])
    x = reference(state, (image[None].float() - 127.5) / 127.5)[-1]
    x = _norm(state, "bn2", x).flatten(1)
    x = _norm(state, "features", F.linear(x, state["fc.weight"], state["fc.bias"]))
    expected = F.normalize(x)[0]
    torch.testing.assert_close(torch.as_tensor(ours["embedding"]), expected, rtol=0, atol=1e-5)


def _norm(state: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    mean, var, weight, bias = (
        state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.batch_norm(x, mean, var, weight, bias, eps=1e-5)


def test_a_module_in_float64_without_a_head() -> None:
    model = from_insightface(IResNet(34, in_channels=1).double())
    assert model.backbone.state_dict()["layer2.3.conv2.weight"].dtype == torch.float64
    assert model.info["channels"] == 1
    assert not model.heads


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected stages of \(2, 2, 2, 2\), .* got \(0, 0"):
        from_insightface(nn.Linear(2, 2))
    state = filled(body(18))
    with pytest.raises(ValueError, match=r"without a place: layer5\.weight"):
        from_insightface({**state, "layer5.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"of another shape: layer1\.0\.conv1"):
        from_insightface({**state, "layer1.0.conv1.weight": torch.ones(64, 64, 1, 1)})
    del state["bn1.bias"]
    with pytest.raises(ValueError, match=r"missing: backbone\.bn1\.bias"):
        from_insightface(state)
