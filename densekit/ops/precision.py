"""Tests whether layers compute correctly in 16 bits on this device, by comparison with float32.

A fast kernel may be wrong: that of torch 2.15 and oneDNN for AVX512-BF16 returns weight gradients
of 1e37 for a 3x3x3 convolution of 2 slices in bfloat16, and writes out of bounds. So every call
that autocast casts is recorded during a forward pass, then run forward and backward on noise and
compared with float32. On a CPU this happens in another process, which a wrong kernel may crash, and
the result is cached in a file.

Shapes: B images, C channels, D spatial dimensions, S the D sizes of a map.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from densekit._files import write_text
from densekit.ops.cpu import processor

TOLERANCE = 0.03
"""Largest error relative to the norm of the float32 result; bfloat16 rounding: 0.002 to 0.005."""
FULL_BLOCKS = 64
"""Kernels process channels in blocks of 16 to 64, so more channels behave the same."""
LONGEST = 8
"""Side from which larger maps behave the same, unless the kernel is larger."""
IMAGES = 2
TRIALS = 3
"""Trials per call: what a wrong kernel reads varies by chance."""
GARBAGE = 128
"""glibc then fills the memory it hands out with bytes of 127: 3e38 in bfloat16 and in float32."""
RIGHT = "right"
"""Printed, and cached in the file, if every call agrees with float32."""

_CONV = ("stride", "padding", "dilation", "groups")
_TRANSPOSED = ("stride", "padding", "output_padding", "groups", "dilation")
SETTINGS: dict[str, tuple[str, ...]] = {
    "linear": (),
    **{f"conv{dims}d": _CONV for dims in (1, 2, 3)},
    **{f"conv_transpose{dims}d": _TRANSPOSED for dims in (1, 2, 3)},
}
"""Functions of `torch.nn.functional`, and their arguments after input, weight and bias."""
FUNCTIONS: dict[Any, str] = {getattr(F, name): name for name in SETTINGS}


@dataclass(frozen=True)
class Call:
    """A kind of call of a layer.

    Attributes:
        function: Name in `torch.nn.functional`.
        image: Shape of the input.
        weight: Shape of the weight.
        last: Whether both have the channels-last layout.
        settings: Values of `SETTINGS`.
    """

    function: str
    image: tuple[int, ...]
    weight: tuple[int, ...]
    last: bool = False
    settings: tuple[Any, ...] = ()

    def __str__(self) -> str:
        """The description of the call in messages."""
        if self.function == "linear":
            return "linear layer of {1} -> {0} channels".format(*self.weight)
        kernel, sides = ("x".join(map(str, s[2:])) for s in (self.weight, self.image))
        return f"{self.function} with kernel {kernel} on a map of {sides}"


class Calls(TorchFunctionMode):
    """Records the calls that autocast casts while it is entered; `found` has each kind once."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Call, None] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Records the call and runs the function unchanged."""
        if (name := FUNCTIONS.get(func)) is not None:
            self.found[_call(name, *args, **(kwargs or {}))] = None
        return func(*args, **(kwargs or {}))


def first_wrong(
    calls: Iterable[Call], dtype: torch.dtype, device: torch.device, *, backward: bool = True
) -> str | None:
    """Describes the first call with a wrong result, and its error; None if all are right.

    Args:
        calls: Recorded calls, see `Calls`.
        dtype: dtype of autocast, bfloat16 or float16.
        device: Device to test.
        backward: Whether to test gradients too.
    """
    calls = tuple(calls)
    if device.type == "cpu":
        return _kept(calls, str(dtype).removeprefix("torch."), backward)
    return next(filter(None, (wrong(call, dtype, device, backward) for call in calls)), None)


def wrong(call: Call, dtype: torch.dtype, device: torch.device, backward: bool) -> str | None:
    """Describes which result of a call is wrong, and by how much; None if none is."""
    exact = _outcome(call, None, device, backward)
    for _ in range(TRIALS):
        _fill_free_memory(device)
        try:
            found = _outcome(call, dtype, device, backward)
        except RuntimeError as error:  # no kernel for this type
            return f"{call}: {str(error).splitlines()[0]}"
        for name, value in found.items():
            off = float((value - exact[name]).norm() / exact[name].norm().clamp(min=1e-12))
            if not off <= TOLERANCE:  # NaN too
                return f"{call}: the relative error of its {name} is {off:.2g}"
    return None


def _fill_free_memory(device: torch.device) -> None:
    """Leaves NaN in free memory: zeros would hide a kernel that reads uninitialised memory."""
    for power in range(8, 21):
        torch.full((2**power,), torch.nan, device=device)


def _call(
    name: str, image: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any
) -> Call:
    """The kind of a call, with channels and sides reduced to the smallest that behave the same."""
    settings = dict(zip(SETTINGS[name], args, strict=False)) | kwargs
    settings = {key: _plain(settings[key]) for key in SETTINGS[name] if key in settings}
    defaults: dict[str, Any] = {"padding": 0, "output_padding": 0}
    values = [settings.get(key, defaults.get(key, 1)) for key in SETTINGS[name]]
    groups = int(settings.get("groups", 1))
    kept = min(groups, _fewer(groups))
    first, second, *kernel = weight.shape
    first = _fewer(first // groups) * kept
    second = _fewer(second)
    if name == "linear":
        return Call(name, (IMAGES, second), (first, second))
    values[SETTINGS[name].index("groups")] = kept
    channels = first if "transpose" in name else second * kept
    dilation = settings.get("dilation", 1)
    steps = dilation if isinstance(dilation, tuple) else (dilation,) * len(kernel)
    reach = [step * (side - 1) + 1 for step, side in zip(steps, kernel, strict=True)]
    sides = [
        min(side, max(LONGEST, length))
        for side, length in zip(image.shape[-len(kernel) :], reach, strict=True)
    ]
    shape = (IMAGES, channels, *sides)
    return Call(name, shape, (first, second, *kernel), _lies_last(weight), tuple(values))


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _fewer(channels: int) -> int:
    return min(channels, FULL_BLOCKS + channels % 16)


def _lies_last(weight: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return weight.ndim in formats and weight.is_contiguous(memory_format=formats[weight.ndim])


def _outcome(
    call: Call, dtype: torch.dtype | None, device: torch.device, backward: bool
) -> dict[str, Tensor]:
    """Output and gradients, in float32, of a call on noise (weight, input and gradient)."""
    generator = torch.Generator().manual_seed(0)
    image, weight = (
        _noise(shape, generator, device, call.last) for shape in (call.image, call.weight)
    )
    named = dict(zip(SETTINGS[call.function], call.settings, strict=True))
    # Without autocast's cache, which would keep the copy of the weight for the next call.
    cast = torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False)
    with torch.enable_grad(), cast:
        y: Tensor = getattr(F, call.function)(image, weight, **named)
    found = {"output": y.detach().float()}
    if backward:
        gradient = torch.randn(y.shape, generator=generator).to(y)
        of_image, of_weight = torch.autograd.grad(y, [image, weight], gradient)
        found |= {"gradient of the input": of_image, "gradient of the weight": of_weight}
    return found


def _noise(
    shape: tuple[int, ...], generator: torch.Generator, device: torch.device, last: bool
) -> Tensor:
    noise = torch.randn(shape, generator=generator).to(device)
    if last:
        formats = {4: torch.channels_last, 5: torch.channels_last_3d}
        noise = noise.to(memory_format=formats[noise.ndim])
    return noise.requires_grad_()


@lru_cache(maxsize=256)
def _kept(calls: tuple[Call, ...], dtype: str, backward: bool) -> str | None:
    """`first_wrong` on the CPU, from the file of an earlier trial or by a new one."""
    job = {
        "calls": [asdict(call) for call in calls],
        "dtype": dtype,
        "backward": backward,
        "threads": torch.get_num_threads(),
        "onednn": torch.backends.mkldnn.enabled,
    }
    text = json.dumps(job)
    environment = (torch.__version__, processor(), Path(__file__).read_text("utf-8"), text)
    flags = sorted(f"{key}={value}" for key, value in os.environ.items() if "DNN" in key)
    key = hashlib.sha256("\n".join((*environment, *flags)).encode()).hexdigest()[:32]
    file = _folder() / f"{key}.txt"
    with contextlib.suppress(OSError):  # not tried yet, or in another user's home
        if kept := file.read_text("utf-8"):
            return None if kept == RIGHT else kept
    answer = _tried_apart(text)
    with contextlib.suppress(OSError):  # home is not writable: the next run tries again
        write_text(file, answer or RIGHT)
    return answer


def _folder() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(home) / "densekit" / "precision"


def _tried_apart(job: str) -> str | None:
    """Runs `main` in another process, as a wrong kernel may write out of bounds."""
    settings = {
        "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path),
        "MALLOC_PERTURB_": str(GARBAGE),
    }
    command = [sys.executable, "-m", "densekit.ops.precision"]
    done = subprocess.run(
        command, input=job, capture_output=True, text=True, env={**os.environ, **settings}
    )
    if done.returncode > 0 or not done.stdout:  # ended before it tried a call
        why = done.stderr.strip()[-2000:] or f"exit code {done.returncode}"
        raise RuntimeError(f"{' '.join(command)}: expected it to test its calls, got: {why}")
    answer = done.stdout.splitlines()[-1]
    if done.returncode < 0:  # by a signal
        return f"{answer}: it crashed the process that tried it"
    return None if answer == RIGHT else answer


def main() -> None:
    """Reads a job from standard input; prints every call it tries, and finally the result."""
    job = json.load(sys.stdin)
    torch.set_num_threads(job["threads"])
    torch.backends.mkldnn.enabled = job["onednn"]
    dtype = getattr(torch, job["dtype"])
    for plain in job["calls"]:
        call = Call(**{key: _tupled(value) for key, value in plain.items()})
        print(call, flush=True)
        if answer := wrong(call, dtype, torch.device("cpu"), job["backward"]):
            print(answer, flush=True)
            os._exit(0)  # without freeing memory that may be corrupted
    print(RIGHT)


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main()
