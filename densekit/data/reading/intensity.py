"""Scales intensities by a declared rule, the same in training, evaluation and prediction.

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
    check_channels(rule, values.shape[-1])
    rules = _rules(rule) if rule.get("kind") == PER_CHANNEL else [rule] * values.shape[-1]
    for channel, apply in enumerate([_checked(one) for one in rules]):
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


def _zscore(x: NDArray[Any], *, foreground: float | None = None) -> NDArray[Any]:
    part = x if foreground is None else x[x > foreground]
    part = part if part.size else x
    mean, std = part.mean(dtype=np.float64), part.std(dtype=np.float64)
    return _rescaled(x, mean, std)


def _percentile(x: NDArray[Any], *, low: float = 0.5, high: float = 99.5) -> NDArray[Any]:
    bottom, top = np.percentile(x, [low, high])
    return _rescaled(np.clip(x, bottom, top), bottom, top - bottom)


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
