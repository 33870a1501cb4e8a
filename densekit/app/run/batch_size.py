"""`data.NAME.batch_size=auto`: the largest batch with which a training step fits into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._malloc import kept_memory
from densekit._names import counted, unknown
from densekit.app.config.data_info import model_info
from densekit.app.config.overrides import Overrides
from densekit.app.errors import UsageError
from densekit.app.run.keep import with_kept
from densekit.build import build_model, instantiate
from densekit.trust import MODEL, without_weights

if TYPE_CHECKING:
    import torch

AUTO = "auto"
SHARE = {"cuda": 0.9, "cpu": 0.8}
"""Share of the free memory that a step may take; larger images may follow."""
ALIKE = 0.25
"""Largest relative difference of two slopes that make a line."""
GIB = 2**30
_log = logging.getLogger(__name__)


def automatic(overrides: Overrides) -> str | None:
    """The data set whose batch size is to be found, None if none is.

    Raises:
        UsageError: There are several.
    """
    names = [word.key.split(".")[1] for word in overrides if is_auto(word.text)]
    if len(set(names)) > 1:
        raise UsageError(_refusal(names[0], "a number with several data sets, whose ratio it is"))
    return names[0] if names else None


def is_auto(text: str) -> bool:
    """Whether a word of the command line is `data.NAME.batch_size=auto`."""
    key, _, value = text.partition("=")
    parts = key.lstrip("+").split(".")
    return value == AUTO and len(parts) == 3 and (parts[0], parts[2]) == ("data", "batch_size")


def check_automatic(name: str, sources: Mapping[str, Any], processes: int) -> None:
    """Refuses to find a batch size where it would not be the only one that counts.

    Raises:
        UsageError: There are several processes or data sets, or batches of identities.
    """
    if name not in sources:
        raise UsageError(unknown("data", name, sources))
    trained = [key for key, source in sources.items() if source.train is not None]
    if trained != [name]:
        raise UsageError(_refusal(name, f"a number with training data {', '.join(trained)}"))
    if processes > 1:
        raise UsageError(
            _refusal(name, f"a number with {processes} processes")
            + "; find it with trainer.devices=1 trainer.max_steps=1"
        )
    if sources[name].images_per_identity is not None:
        raise UsageError(_refusal(name, "a number with images_per_identity"))


def _refusal(name: str, expected: str) -> str:
    return f"data.{name}.batch_size: expected {expected}, got {AUTO}"


def set_largest(cfg: dict[str, Any], sources: Mapping[str, Any], name: str) -> None:
    """Sets the batch size of a data set, in the resolved configuration too, and says so.

    Args:
        cfg: Resolved configuration.
        sources: Its data sets.
        name: The data set.
    """
    from densekit.training.step_lines import used_memory

    source, before = sources[name], int(sources[name].batch_size)
    workers, source.num_workers = source.num_workers, 0
    device = _device(str(cfg["trainer"].get("accelerator", AUTO)))
    step = _step(cfg, sources, name, device)

    def peak(count: int) -> float:
        source.batch_size = count
        step()
        return used_memory(device)

    budget = used_memory(device) + SHARE[device.type] * free_memory(device)
    with kept_memory(device.type):  # as in the training
        found = largest(peak, budget, len(source.train) * source.repeats)
    if device.type == "cuda":
        found = confirmed(peak, found)
    source.batch_size, source.num_workers = found, workers
    cfg["data"][name]["batch_size"] = found
    lr = cfg["optimizer"].get("lr")
    scaled = f"; scaled linearly from {before} images it would be {lr * found / before:.2g}"
    unchanged = cfg["training"].get("base_batch_size") is None and lr is not None
    _log.info(
        "data.%s.batch_size: %s, the most that %.1f GiB hold%s",
        *(name, counted(found, "image"), budget),
        f"; optimizer.lr={lr:g} is unchanged{scaled}" if unchanged else "",
    )


def largest(peak: Callable[[int], float], budget: float, limit: int) -> int:
    """Finds the largest batch whose peak memory is within a budget.

    It tries 1, 2, 4, ... images until memory grows along a line, and follows the line.

    Args:
        peak: Runs a step with a number of images and returns the peak memory so far.
        budget: In the same unit.
        limit: Most images.

    Raises:
        UsageError: A single image does not fit.
    """
    tried: list[tuple[int, float]] = []
    count = 1
    while True:
        used = _tried(peak, count)
        if used is None or used > budget:
            break
        tried.append((count, used))
        if count == limit or _is_line(tried[-3:]):
            break
        count = min(2 * count, limit)
    if not tried:
        raise UsageError("batch_size: expected a step of one image to fit into memory, got more")
    (last, most), grown = tried[-1], _slopes(tried[-2:])
    if last == limit or used is None or not grown or grown[0] <= 0:
        return last
    return min(limit, int(last + (budget - most) / grown[0]))


def confirmed(peak: Callable[[int], float], count: int) -> int:
    """Reduces a number of images until a step with it fits."""
    while count > 1 and _tried(peak, count) is None:
        count = int(0.9 * count)
    return count


def _tried(peak: Callable[[int], float], count: int) -> float | None:
    from densekit.training.out_of_memory import is_out_of_memory

    try:
        return peak(count)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _slopes(tried: list[tuple[int, float]]) -> list[float]:
    pairs = zip(tried, tried[1:], strict=False)
    return [(more - less) / (high - low) for (low, less), (high, more) in pairs]


def _is_line(tried: list[tuple[int, float]]) -> bool:
    if len(tried) < 3:
        return False
    first, second = _slopes(tried)
    return first > 0 and second > 0 and abs(first - second) <= ALIKE * second


def _device(accelerator: str) -> torch.device:
    import torch

    on_gpu = accelerator in (AUTO, "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _step(
    cfg: Mapping[str, Any], sources: Mapping[str, Any], name: str, device: torch.device
) -> Callable[[], None]:
    """Returns a training step on one batch, of a model that is thrown away."""
    import torch
    from lightning.fabric.utilities import move_data_to_device

    info = with_kept(model_info(sources, cfg["heads"], cfg["resize"]), cfg.get("kept"))
    fresh = {key: without_weights(cfg[key]) for key in MODEL}
    model = build_model({**cfg, **fresh}, info).to(device).train()
    optimizer = instantiate(cfg["optimizer"], "optimizer")(model.parameters())
    source = sources[name]
    precision = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    dtype = precision.get(str(cfg["precision"]))  # `auto` is measured in float32, the larger one

    def step() -> None:
        batch = next(iter(source.train_loader()))
        batch = move_data_to_device({k: v for k, v in batch.items() if k != "meta"}, device)
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            terms = model.loss(batch, heads=source.heads)
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def free_memory(device: torch.device) -> float:
    """Memory in GiB that this process may still take, of a CUDA device or of the machine."""
    import psutil
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info()
        held = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return float(free + held) / GIB
    return min(float(psutil.virtual_memory().available), _left_of_container()) / GIB


def _left_of_container() -> float:
    """Bytes that the control group of this process has left; infinite without a limit."""
    group = Path("/sys/fs/cgroup")
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        if (group / most).is_file() and (text := (group / most).read_text().strip()) != "max":
            return float(int(text) - int((group / used).read_text()))
    return float("inf")
