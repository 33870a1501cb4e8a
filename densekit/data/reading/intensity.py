"""Intensities by a declared rule: the same in training, evaluation and prediction.

S the D sizes of an image, C its channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import check_keys, choose

Rule = Mapping[str, Any]
"""`{"kind": NAME, ...arguments}`: plain values, as the model's `info` keeps them."""

PER_CHANNEL = "channels"
"""The kind that has a rule a channel."""


def scale(image: NDArray[Any], rule: Rule | None) -> NDArray[Any]:
    """Applies a rule to each channel by itself.

    Args:
        image: (*S, C), the stored values.
        rule: None leaves the values. `kind` is
            "channels": `rules` has a rule for each channel (CT beside PET), in their order;
            "zscore": mean 0 and standard deviation 1, both taken over all voxels or, with
                `foreground`, over those above that value (background is scaled along);
            "percentile": the `low` and `high` percentile (default 0.5 and 99.5) become 0 and 1,
                what lies beyond is clipped;
            "window": `level - width / 2` and `level + width / 2` become 0 and 1, what lies beyond
                is clipped (CT: level 40, width 400 in HU is soft tissue);
            "clip": what lies beyond `low` and `high` is clipped, then `mean` becomes 0 and `std`
                above it 1: numbers of the data set, the same for every image (nnU-Net's rule for
                CT);
            "range": `low` and `high` become 0 and 1, nothing is clipped.

    Returns:
        (*S, C) float32, a new array. A constant channel becomes 0 by "zscore" and "percentile".

    Raises:
        ValueError: For an unknown kind or argument, with the nearest, a missing one, or another
            number of rules than channels.
    """
    values = image.astype(np.float32)
    if rule is None:
        return values
    check_channels(rule, values.shape[-1])
    rules = _rules(rule) if rule.get("kind") == PER_CHANNEL else [rule] * values.shape[-1]
    for channel, apply in enumerate([_checked(one) for one in rules]):
        values[..., channel] = apply(values[..., channel])
    return values


def check_rule(rule: Rule | None) -> dict[str, Any] | None:
    """The rule as a plain dict.

    Raises:
        TypeError: If it is no mapping.
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
    """Refuses rules that are not one a channel.

    Raises:
        ValueError: If there are more or fewer.
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
    """The rules of the channels."""
    check_keys(f"intensity ({PER_CHANNEL})", rule, ["kind", "rules"])
    rules = rule.get("rules")
    if not isinstance(rules, Sequence) or isinstance(rules, str) or not rules:
        raise ValueError(f"intensity.rules: expected a list of rules, one a channel, got {rules!r}")
    for one in rules:
        if not isinstance(one, Mapping) or one.get("kind") == PER_CHANNEL:
            raise ValueError(f"intensity.rules: expected {{kind: ...}} a channel, got {one!r}")
    return list(rules)


def _zscore(x: NDArray[Any], *, foreground: float | None = None) -> NDArray[Any]:
    part = x if foreground is None else x[x > foreground]
    part = part if part.size else x
    mean, std = part.mean(dtype=np.float64), part.std(dtype=np.float64)
    return _divided(x, mean, std)


def _percentile(x: NDArray[Any], *, low: float = 0.5, high: float = 99.5) -> NDArray[Any]:
    bottom, top = np.percentile(x, [low, high])
    return _divided(np.clip(x, bottom, top), bottom, top - bottom)


def _window(x: NDArray[Any], *, level: float, width: float) -> NDArray[Any]:
    bottom = level - width / 2
    return _divided(np.clip(x, bottom, bottom + width), bottom, width)


def _range(x: NDArray[Any], *, low: float, high: float) -> NDArray[Any]:
    return _divided(x, low, high - low)


def _clip(x: NDArray[Any], *, low: float, high: float, mean: float, std: float) -> NDArray[Any]:
    return _divided(np.clip(x, low, high), mean, std)


def _divided(x: NDArray[Any], zero: float, one: float) -> NDArray[Any]:
    """What is at `zero` becomes 0, what is `one` above it 1; 0 where that is no distance."""
    # The rounding of a constant's own mean is no contrast.
    if one <= 1e-6 * max(abs(zero), 1e-30):
        return np.zeros_like(x)
    scaled: NDArray[Any] = (x - np.float32(zero)) / np.float32(one)
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
"""Kind to the arguments that it needs and those that it may have."""


def _checked(rule: Rule) -> Any:
    kind = rule.get("kind", "")
    needed, optional = choose("intensity.kind", kind, _ARGUMENTS)
    arguments = {key: value for key, value in rule.items() if key != "kind"}
    check_keys(f"intensity ({kind})", arguments, sorted(needed | optional))
    for key, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            raise ValueError(f"intensity.{key}: a number is needed, found {value!r}")
    if missing := sorted(needed - set(arguments)):
        raise ValueError(f"intensity ({kind}): {', '.join(missing)} must be given")
    _check_order(kind, arguments)
    return partial(_KINDS[kind], **arguments)


def _check_order(kind: str, arguments: Mapping[str, float]) -> None:
    for key in ("width", "std"):
        if arguments.get(key, 1) <= 0:
            raise ValueError(f"intensity.{key}: more than 0, found {arguments[key]}")
    low, high = arguments.get("low", 0.5), arguments.get("high", 99.5)
    if low >= high:
        raise ValueError(f"intensity: low must be less than high, found {low} and {high}")
    if kind == "percentile" and not 0 <= low < high <= 100:
        raise ValueError(f"intensity: percentiles are 0 to 100, found {low} and {high}")
