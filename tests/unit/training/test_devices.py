"""The precision of a run: fast where it was found right, and said where it is not."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from densekit import DenseModel
from densekit.backbones import resnet18
from densekit.heads import UNet
from densekit.ops.precision import Call
from densekit.training import layer_calls, resolve_precision
from densekit.training.devices import cpu_gains_from_bf16

WRONG = "conv3d with kernel 3x3x3: the relative error of its gradient of the weight is 9"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the trial finds, and how it was asked; the processor gains from bfloat16."""
    asked: dict[str, object] = {"wrong": None}

    def answer(calls: object, dtype: object, device: object, *, backward: bool) -> object:
        asked.update(dtype=dtype, device=str(device), backward=backward)
        return asked["wrong"]

    monkeypatch.setattr("densekit.training.devices.first_wrong", answer)
    monkeypatch.setattr("densekit.training.devices.cpu_gains_from_bf16", lambda: True)
    return asked


def no_calls() -> list[Call]:
    return []


def unasked() -> list[Call]:
    raise AssertionError("nothing is to be tried")


@pytest.mark.parametrize(("wrong", "expected"), [(None, "bf16-mixed"), (WRONG, "32-true")])
def test_auto_is_fast_where_it_is_right(
    found: dict[str, object], capfd: pytest.CaptureFixture[str], wrong: str | None, expected: str
) -> None:
    found["wrong"] = wrong
    assert resolve_precision("auto", "cpu", no_calls) == expected
    assert found == {
        "wrong": wrong,
        "dtype": torch.bfloat16,
        "device": "cpu",
        "backward": True,
    }


def test_auto_says_why_it_is_float32(
    found: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("densekit.training.devices.rank_zero_info", said.append)
    found["wrong"] = WRONG
    resolve_precision("auto", "cpu", no_calls)
    assert len(said) == 1
    assert said[0].startswith("precision=auto is 32-true: ")
    assert WRONG in said[0]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-mixed"])
def test_a_precision_that_is_asked_for_is_kept_with_a_warning(
    found: dict[str, object], precision: str
) -> None:
    found["wrong"] = WRONG
    with pytest.warns(UserWarning, match=f"precision={precision}: .*conv3d.*32-true"):
        assert resolve_precision(precision, "cpu", no_calls) == precision


@pytest.mark.parametrize("precision", ["32-true", "64-true", "transformer-engine"])
def test_nothing_is_tried_for_other_precisions(found: dict[str, object], precision: str) -> None:
    assert resolve_precision(precision, "cpu", unasked) == precision
    assert resolve_precision("auto", "mps", unasked) == "32-true"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "32-true"), ((9, 0), "bf16-mixed")])
def test_precision_follows_the_gpu(
    found: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for accelerator in ("gpu", "auto"):
        assert resolve_precision("auto", accelerator, no_calls) == expected
    assert found.get("device", "cuda:1") == "cuda:1"


def test_torch_without_the_question_means_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert cpu_gains_from_bf16() is False


@pytest.mark.parametrize(("dims", "deepest"), [(2, (3, 2)), (3, (2, 1, 3))])
def test_calls_are_those_of_the_model_at_its_size(dims: int, deepest: tuple[int, ...]) -> None:
    model = DenseModel(
        resnet18(spatial_dims=dims, in_channels=1, width=4),
        heads={"parts": partial(UNet, num_classes=2)},
        info={"mean": [0.0], "std": [1.0]},
    )
    model.heads.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = layer_calls(model, [tuple(32 * side for side in deepest)])
    functions = {call.function for call in found}
    assert functions == {f"conv{dims}d", f"conv_transpose{dims}d"}
    assert any(call.image[2:] == deepest for call in found)
    assert (model.training, model.heads.training) == (True, False)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
