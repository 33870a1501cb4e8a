"""Scales intensities by a declared rule, the same in training, evaluation and prediction.

S the D sizes of an image, C its channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import check_keys, choose

Rule = Mapping[str, Any]
"""`{"kind": NAME, ...arguments}`: plain values, as the model's `info` keeps them."""

PER_CHANNEL = "channels"
"""The kind that has one rule per channel."""


def scale(image: NDArray[Any], rule: Rule | None) -> NDArray[Any]:
    """Scales each channel of an image by a rule.

    Args:
        image: (*S, C), the stored values.
        rule: None leaves the values unchanged. `kind` is
            "channels": `rules` lists one rule per channel, in their order (CT beside PET);
            "zscore": to mean 0 and standard deviation 1, computed over all voxels or, with
                `foreground`, over those above that value (the background is scaled too);
            "percentile": the `low` and `high` percentiles (default 0.5 and 99.5) become 0 and 1,
                values beyond are clipped;
            "window": `level - width / 2` and `level + width / 2` become 0 and 1, values beyond are
                clipped (CT: level 40, width 400 in HU shows soft tissue);
            "clip": values are clipped to `low` and `high`, then `mean` is subtracted and the result
                divided by `std`; all four are statistics of the data set (nnU-Net's rule for CT);
            "range": `low` and `high` become 0 and 1, nothing is clipped.

    Returns:
        (*S, C) float32, a new array. "zscore" and "percentile" map a constant channel to 0.

    Raises:
        ValueError: If a kind or argument is unknown or missing, or the number of rules is not the
            number of channels.
    """
    values = image.astype(np.float32)
    if rule is None:
        return values
    rules = [_checked(one) for one in rules_of(rule, values.shape[-1]) if one is not None]
    for channel, apply in enumerate(rules):
        values[..., channel] = apply(values[..., channel])
    return values


def check_rule(rule: Rule | None) -> dict[str, Any] | None:
    """Checks a rule and returns it as a plain dict.

    Raises:
        TypeError: If it is not a mapping.
        ValueError: If `scale` would refuse it.
    """
    if rule is None:
        return None
    if not isinstance(rule, Mapping):
        raise TypeError(f"intensity: expected a rule {{kind: NAME, ...}}, got {rule!r}")
    if rule.get("kind") == PER_CHANNEL:
        return {"kind": PER_CHANNEL, "rules": [check_rule(one) for one in _rules(rule)]}
    _checked(rule)
    return {key: value if key == "kind" else float(value) for key, value in rule.items()}


def check_channels(rule: Rule | None, channels: int) -> None:
    """Refuses a rule of kind "channels" for another number of channels.

    Raises:
        ValueError: If there are more or fewer rules than channels.
    """
    if rule is not None and rule.get("kind") == PER_CHANNEL:
        count = len(_rules(rule))
        if count != channels:
            raise ValueError(
                f"intensity.rules: expected a rule for each of {channels} channels, got {count}"
            )


def kinds(rule: Rule | None) -> set[str]:
    """The kinds of a rule, or of the rules of its channels."""
    if rule is None:
        return set()
    return {one["kind"] for one in rule["rules"]} if "rules" in rule else {rule["kind"]}


def _rules(rule: Rule) -> list[Rule]:
    """The rules in a rule of kind "channels"."""
    check_keys(f"intensity ({PER_CHANNEL})", rule, ["kind", "rules"])
    rules = rule.get("rules")
    if not isinstance(rules, Sequence) or isinstance(rules, str) or not rules:
        raise ValueError(f"intensity.rules: expected a list, one rule per channel, got {rules!r}")
    for one in rules:
        if not isinstance(one, Mapping) or one.get("kind") == PER_CHANNEL:
            raise ValueError(f"intensity.rules: expected {{kind: ...}} per channel, got {one!r}")
    return list(rules)


def fitted(
    parts: Callable[[], Iterable[NDArray[Any]]], rule: Rule | None
) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The scaling of one channel by a rule, with the statistics of all its parts.

    Args:
        parts: Returns the channel part by part, float32; called several times.
        rule: As in `scale`, but not of kind "channels".

    Returns:
        Scales any part as `scale` does the whole channel, but for the rounding of sums in float64.
    """
    if rule is None:
        return np.asarray
    apply = _checked(rule)
    if rule["kind"] == "zscore":
        mean, std = _moments(parts, **apply.keywords)
        apply = partial(_rescaled, offset=mean, width=std)
    elif rule["kind"] == "percentile":
        percents = [float(rule.get("low", 0.5)), float(rule.get("high", 99.5))]
        low, high = percentiles(parts, percents)
        apply = partial(_clip, low=low, high=high, mean=low, std=high - low)
    return lambda part: np.asarray(apply(part), np.float32)


def rules_of(rule: Rule | None, channels: int) -> list[Rule | None]:
    """The rule of each channel.

    Raises:
        ValueError: If it is of kind "channels" for another number of channels.
    """
    check_channels(rule, channels)
    per_channel = rule is not None and rule.get("kind") == PER_CHANNEL
    return list(_rules(rule)) if rule is not None and per_channel else [rule] * channels


def percentiles(
    parts: Callable[[], Iterable[NDArray[Any]]], percents: Sequence[float]
) -> list[Any]:
    """`np.percentile` of finite float32 values that come in parts, exactly, in two passes.

    The bits of floats, the negative ones inverted, are integers of the same order: the first pass
    counts their upper halves, the second the lower halves of those that hold a wanted value.
    """
    count = sum(part.size for part in parts())
    places = [percent / 100 * (count - 1) for percent in percents]
    ranks = sorted({rank for at in places for rank in (math.floor(at), math.ceil(at))})
    upper = np.zeros(1 << 16, np.int64)
    for part in parts():
        upper += np.bincount(_ordered(part) >> 16, minlength=1 << 16)
    before = np.concatenate(([0], np.cumsum(upper)))
    bins = {rank: int(np.searchsorted(before, rank, "right")) - 1 for rank in ranks}
    lower = {one: np.zeros(1 << 16, np.int64) for one in bins.values()}
    for part in parts():
        keys = _ordered(part)
        for one, counts in lower.items():
            counts += np.bincount(keys[keys >> 16 == one] & 0xFFFF, minlength=1 << 16)
    found = {}
    for rank, one in bins.items():
        low = int(np.searchsorted(np.cumsum(lower[one]), rank - before[one], "right"))
        found[rank] = _float_of((one << 16) | low)
    pairs = [(found[math.floor(at)], found[math.ceil(at)], at - math.floor(at)) for at in places]
    return [np.percentile(pair[:2], [100 * pair[2]])[0] for pair in pairs]


def _ordered(values: NDArray[Any]) -> NDArray[Any]:
    bits = (np.ascontiguousarray(values, np.float32) + np.float32(0)).view(np.uint32).ravel()
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _float_of(key: int) -> NDArray[Any]:
    bits = key ^ (1 << 31) if key >> 31 else ~key & 0xFFFFFFFF
    value: NDArray[Any] = np.array(bits, np.uint32).view(np.float32)
    return value


def _moments(
    parts: Callable[[], Iterable[NDArray[Any]]], foreground: float | None = None
) -> tuple[Any, Any]:
    """Mean and standard deviation over all parts, in float64."""

    def chosen(above: float | None) -> Iterator[NDArray[Any]]:
        for part in parts():
            yield part if above is None else part[part > above]

    count = sum(part.size for part in chosen(foreground))
    if not count:
        foreground, count = None, sum(part.size for part in parts())
    mean = sum(part.sum(dtype=np.float64) for part in chosen(foreground)) / count
    square = sum(np.square(part - mean).sum() for part in chosen(foreground)) / count
    return mean, np.sqrt(square)


def _zscore(x: NDArray[Any], *, foreground: float | None = None) -> NDArray[Any]:
    return _rescaled(x, *_moments(lambda: [x], foreground))


def _percentile(x: NDArray[Any], *, low: float = 0.5, high: float = 99.5) -> NDArray[Any]:
    bottom, top = np.percentile(x, [low, high])
    return _clip(x, low=bottom, high=top, mean=bottom, std=top - bottom)


def _window(x: NDArray[Any], *, level: float, width: float) -> NDArray[Any]:
    bottom = level - width / 2
    return _rescaled(np.clip(x, bottom, bottom + width), bottom, width)


def _range(x: NDArray[Any], *, low: float, high: float) -> NDArray[Any]:
    return _rescaled(x, low, high - low)


def _clip(x: NDArray[Any], *, low: float, high: float, mean: float, std: float) -> NDArray[Any]:
    return _rescaled(np.clip(x, low, high), mean, std)


def _rescaled(x: NDArray[Any], offset: float, width: float) -> NDArray[Any]:
    """`(x - offset) / width`, or 0 if the width is negligible."""
    # A constant channel has no contrast beyond the rounding error of its own mean.
    if width <= 1e-6 * max(abs(offset), 1e-30):
        return np.zeros_like(x)
    scaled: NDArray[Any] = (x - np.float32(offset)) / np.float32(width)
    return scaled


_KINDS: Mapping[str, Callable[..., NDArray[Any]]] = {
    "zscore": _zscore,
    "percentile": _percentile,
    "window": _window,
    "range": _range,
    "clip": _clip,
}
_ARGUMENTS: Mapping[str, tuple[set[str], set[str]]] = {
    "zscore": (set(), {"foreground"}),
    "percentile": (set(), {"low", "high"}),
    "window": ({"level", "width"}, set()),
    "range": ({"low", "high"}, set()),
    "clip": ({"low", "high", "mean", "std"}, set()),
}
"""Kind to its required and its optional arguments."""


def _checked(rule: Rule) -> Any:
    kind = rule.get("kind", "")
    needed, optional = choose("intensity.kind", kind, _ARGUMENTS)
    arguments = {key: value for key, value in rule.items() if key != "kind"}
    check_keys(f"intensity ({kind})", arguments, sorted(needed | optional))
    for key, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(f"intensity.{key}: expected a finite number, got {value!r}")
    if missing := sorted(needed - set(arguments)):
        wanted = ", ".join(sorted(needed))
        raise ValueError(f"intensity ({kind}): expected {wanted}, got no {', '.join(missing)}")
    _check_order(kind, arguments)
    return partial(_KINDS[kind], **arguments)


def _check_order(kind: str, arguments: Mapping[str, float]) -> None:
    for key in ("width", "std"):
        if arguments.get(key, 1) <= 0:
            raise ValueError(f"intensity.{key}: expected more than 0, got {arguments[key]}")
    low, high = arguments.get("low", 0.5), arguments.get("high", 99.5)
    if low >= high:
        raise ValueError(f"intensity: expected low below high, got {low} and {high}")
    if kind == "percentile" and not 0 <= low < high <= 100:
        raise ValueError(f"intensity: expected percentiles from 0 to 100, got {low} and {high}")
