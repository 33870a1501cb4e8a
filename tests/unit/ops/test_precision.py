"""Wrong kernels are found, in this process or apart from it, and right ones are not blamed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekit.ops import precision
from densekit.ops.precision import Call, Calls, first_wrong, wrong

CPU = torch.device("cpu")
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "linear": (nn.Linear(6, 4), (5, 6)),
    "conv1d": (nn.Conv1d(4, 8, 3, padding=2, dilation=2), (3, 4, 9)),
    "conv2d": (nn.Conv2d(4, 8, 3, padding=1, groups=4), (3, 4, 9, 2)),
    "strided": (nn.Conv2d(3, 4, 7, 2, 3), (1, 3, 20, 20)),
    "same": (nn.Conv2d(3, 4, (3, 5), padding="same"), (1, 3, 6, 6)),
    "conv3d": (nn.Conv3d(4, 4, 3, padding=1), (1, 4, 4, 5, 6)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 2, 3, 2, 1, 1), (1, 4, 5, 5)),
    "conv_transpose3d": (nn.ConvTranspose3d(4, 2, 2, 2), (1, 4, 3, 3, 3)),
}


def calls_of(layer: nn.Module, shape: tuple[int, ...]) -> list[Call]:
    with torch.no_grad(), Calls() as calls:
        layer(torch.zeros(shape))
    return list(calls.found)


@pytest.mark.filterwarnings("ignore:In CPU autocast")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_noted_and_right_in_float32(name: str) -> None:
    (call,) = calls_of(*LAYERS[name])
    assert call.function in F.__dict__
    assert wrong(call, torch.float32, CPU, backward=True) is None


def test_what_only_makes_a_call_larger_is_cut() -> None:
    (call,) = calls_of(nn.Conv2d(200, 130, 3, padding=1), (7, 200, 33, 5))
    assert (call.image, call.weight) == ((2, 72, 8, 5), (66, 72, 3, 3))
    (call,) = calls_of(nn.Conv2d(96, 96, 3, groups=96), (7, 96, 40, 40))
    assert (call.image, call.weight) == ((2, 64, 8, 8), (64, 1, 3, 3))
    (wide,) = calls_of(nn.Conv2d(3, 3, 3, dilation=18), (1, 3, 40, 64))
    assert wide.image[2:] == (37, 37)


def test_random_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    wrong(calls_of(*LAYERS["conv2d"])[0], torch.bfloat16, CPU, backward=True)
    assert torch.equal(torch.get_rng_state(), before)


class Spoilt(torch.autograd.Function):
    """The identity, whose gradient is what a broken kernel leaves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, harm: float) -> Tensor:
        ctx.harm = harm
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] + ctx.harm, None


def plant(monkeypatch: pytest.MonkeyPatch, name: str, part: str, harm: float) -> None:
    """Makes a function compute a wrong output or gradient wherever autocast is on."""
    right: Callable[..., Tensor] = getattr(F, name)

    def spoilt(image: Tensor, weight: Tensor, *args: Any, **named: Any) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return right(image, weight, *args, **named)
        image = Spoilt.apply(image, harm) if part == "gradient of the input" else image
        weight = Spoilt.apply(weight, harm) if part == "gradient of the weight" else weight
        y = right(image, weight, *args, **named)
        return y + harm if part == "output" else y

    monkeypatch.setattr(F, name, spoilt)


@pytest.mark.parametrize("harm", [1.0, float("nan"), 1e37])
@pytest.mark.parametrize("part", ["output", "gradient of the input", "gradient of the weight"])
@pytest.mark.parametrize("name", ["linear", "conv2d", "conv_transpose3d"])
def test_planted_kernels_are_found(
    monkeypatch: pytest.MonkeyPatch, name: str, part: str, harm: float
) -> None:
    (call,) = calls_of(*LAYERS[name])
    plant(monkeypatch, name, part, harm)
    found = wrong(call, torch.bfloat16, CPU, backward=True)
    assert found is not None
    assert f"the relative error of its {part} is" in found
    if part != "output":
        assert wrong(call, torch.bfloat16, CPU, backward=False) is None


def test_a_kernel_that_does_not_exist_is_not_right(monkeypatch: pytest.MonkeyPatch) -> None:
    (call,) = calls_of(*LAYERS["conv2d"])
    right = F.conv2d

    def absent(*args: Any, **named: Any) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            raise NotImplementedError("not implemented for 'Half'")
        return right(*args, **named)

    monkeypatch.setattr(F, "conv2d", absent)
    found = wrong(call, torch.float16, CPU, backward=True)
    assert found is not None
    assert found.endswith("on a map of 8x2: not implemented for 'Half'")


def test_job_is_read_tried_and_answered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [call for name in ("linear", "conv2d") for call in calls_of(*LAYERS[name])]
    job = {
        "calls": [asdict(call) for call in calls],
        "dtype": "bfloat16",
        "backward": True,
        "threads": torch.get_num_threads(),
        "onednn": True,
    }
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(job)))
    precision.main()
    assert capsys.readouterr().out.splitlines() == [*map(str, calls), "right"]


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[SimpleNamespace]:
    """What the other process will do, one a trial; answers are kept in an empty folder."""
    ends: list[SimpleNamespace] = []
    monkeypatch.setattr("subprocess.run", lambda *_, **__: ends.pop(0))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    precision._kept.cache_clear()
    return ends


def ask() -> str | None:
    return first_wrong(calls_of(*LAYERS["conv3d"]), torch.bfloat16, CPU)


@pytest.mark.parametrize(
    ("code", "printed", "expected"),
    [
        (0, "conv3d\nright\n", None),
        (0, "conv3d\nconv3d: off by 9\n", "conv3d: off by 9"),
        (-6, "conv2d\nconv3d\n", "conv3d: it crashed the process that tried it"),
    ],
)
def test_answers_are_kept_by_processor_and_torch(
    apart: list[SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    printed: str,
    expected: str | None,
) -> None:
    end = SimpleNamespace(returncode=code, stdout=printed, stderr="")
    apart.append(end)
    assert ask() == expected
    precision._kept.cache_clear()  # as in another run
    assert ask() == expected
    precision._kept.cache_clear()
    monkeypatch.setattr(torch, "__version__", "9.9")
    apart.append(end)
    assert ask() == expected
    assert apart == []


@pytest.mark.parametrize(
    ("code", "said", "message"),
    [(1, "No module named densekit", "No module named densekit"), (-9, "", "exit code -9")],
)
def test_a_trial_that_cannot_start_is_not_taken_for_an_answer(
    apart: list[SimpleNamespace], tmp_path: Path, code: int, said: str, message: str
) -> None:
    apart.append(SimpleNamespace(returncode=code, stdout="", stderr=said))
    with pytest.raises(RuntimeError, match=message):
        ask()
    assert list(tmp_path.rglob("*.txt")) == []


def test_a_home_that_cannot_be_written_costs_nothing(
    apart: list[SimpleNamespace], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    apart.append(SimpleNamespace(returncode=0, stdout="right\n", stderr=""))
    assert ask() is None


def test_the_other_process_finds_no_zeros_in_free_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: dict[str, str] = {}

    def run(*_: Any, env: dict[str, str], **__: Any) -> SimpleNamespace:
        given.update(env)
        return SimpleNamespace(returncode=0, stdout="right\n", stderr="")

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    precision._kept.cache_clear()
    assert ask() is None
    byte = int(given["MALLOC_PERTURB_"]) ^ 0xFF  # what glibc hands out
    for dtype in (torch.bfloat16, torch.float32):
        assert torch.tensor([byte] * 4, dtype=torch.uint8).view(dtype).abs().min() > 1e38


@pytest.mark.parametrize("spoil", [Path.touch, Path.mkdir])
def test_a_kept_answer_that_cannot_be_read_is_asked_for_again(
    apart: list[SimpleNamespace], tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    wrong = SimpleNamespace(returncode=0, stdout="conv3d: off by 9\n", stderr="")
    apart += [wrong, wrong]
    assert ask() == "conv3d: off by 9"
    (file,) = tmp_path.rglob("*.txt")
    file.unlink()
    spoil(file)
    precision._kept.cache_clear()
    assert ask() == "conv3d: off by 9"


@pytest.mark.slow  # starts a process that imports torch
def test_kernels_of_this_processor_answer_from_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    precision._kept.cache_clear()
    flat = calls_of(*LAYERS["conv2d"])
    assert first_wrong(flat, torch.bfloat16, CPU) is None
    thin = calls_of(nn.Conv3d(32, 32, 3, padding=1), (2, 32, 2, 4, 4))
    found = first_wrong([*flat, *thin], torch.bfloat16, CPU)
    assert found is None or found.startswith("conv3d with kernel 3x3x3 on a map of 2x4x4")
