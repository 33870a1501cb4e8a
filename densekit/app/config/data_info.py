"""What data sets describe about themselves, for the configuration and for the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import Container, OmegaConf

from densekit._names import unknown
from densekit.app.errors import UsageError

HEAD_KEYS = ("names", "ids", "num_classes")
IDENTITY_KEYS = ("num_identities", "identities")
"""Keys of data sets of identities instead; `identities`, a digest of names, is optional."""
MORE_KEYS = ("background", "multilabel", "plane_values", "regions_class_order", "frequency")
"""Further keys of some data sets: those with semantic masks, and LVIS."""
MODEL_KEYS = (
    "mean",
    "std",
    "channels",
    "dtype",
    "full_scale",
    "channel_order",
    "spatial_dims",
    "intensity",
    "orientation",
    "spacing",
    "slices",
    "letters",
)


@contextmanager
def data_info_of(sources: Mapping[str, Any]) -> Iterator[None]:
    """Context in which `${data_info:num_classes}` and `${data_info:SOURCE.num_classes}` resolve.

    Within `heads.NAME`, the short form refers to the data sets that train this head, elsewhere to
    all of them. They must agree.
    """

    def data_info(path: str, *, _parent_: Container) -> Any:
        source, dot, key = path.rpartition(".")
        if dot:
            if source not in sources:
                raise UsageError(unknown(f"${{data_info:{path}}}", source, sources))
            return _entry(sources[source].describe(), key, f"data.{source}")
        head = _head_of(_parent_)
        asked = training_sources(sources, head) if head else list(sources)
        return common_value(sources, asked, key, head)

    OmegaConf.register_new_resolver("data_info", data_info, replace=True)
    try:
        yield
    finally:
        OmegaConf.clear_resolver("data_info")  # it holds references to the data sets


def model_info(
    sources: Mapping[str, Any], heads: Mapping[str, Any], resize: Mapping[str, int] | None
) -> dict[str, Any]:
    """The model's `info`: what it must know about its data, as plain JSON values.

    Args:
        sources: Data sets by name.
        heads: Head configurations by name.
        resize: The rule by which images are resized for the network; None leaves them.
    """
    from densekit import __version__

    described = [source.describe() for source in sources.values()]
    info: dict[str, Any] = {
        "heads": {
            head: _of_classes(sources, head) | _of_some(sources, head)
            for head in heads
            if training_sources(sources, head)
        },
        "resize": dict(resize) if resize else None,
        "version": __version__,
    }
    for key in MODEL_KEYS:
        if any(key in one for one in described):
            info[key] = common_value(sources, list(sources), key)
    if prepared := {head: rule for head in heads if (rule := _prepared(sources, head))}:
        info["prepared"] = prepared
    return info


def _prepared(sources: Mapping[str, Any], head: str) -> dict[str, Any] | None:
    """How images of a head of identities are prepared for the network, from its data sets."""
    tell = [getattr(sources[name], "prepared", None) for name in training_sources(sources, head)]
    found = [rule for rule in (one() for one in tell if one is not None) if rule]
    if not found:
        return None
    from densekit.data.identification.prepared import joined

    return joined(found)


def _of_classes(sources: Mapping[str, Any], head: str) -> dict[str, Any]:
    """What a head distinguishes: named classes, or a number of identities."""
    trainers = training_sources(sources, head)
    described = [describe_for(sources[name], head) for name in trainers]
    identities = any(key in one for one in described for key in IDENTITY_KEYS)
    identity_keys = [key for key in IDENTITY_KEYS if any(key in one for one in described)]
    keys = identity_keys if identities else HEAD_KEYS
    return {key: common_value(sources, trainers, key, head) for key in keys}


def _of_some(sources: Mapping[str, Any], head: str) -> dict[str, Any]:
    trainers = training_sources(sources, head)
    described = [describe_for(sources[name], head) for name in trainers]
    keys = [key for key in MORE_KEYS if any(key in one for one in described)]
    return {key: common_value(sources, trainers, key, head) for key in keys}


def common_value(sources: Mapping[str, Any], names: list[str], key: str, head: str = "") -> Any:
    """The value of an entry that the named data sets share, as described for a head.

    Identities are those that train: data sets that are only evaluated on have others, or none.

    Raises:
        UsageError: The values differ, or a data set does not describe the entry.
    """
    if key in IDENTITY_KEYS:
        names = [name for name in names if getattr(sources[name], "train", None)] or names
    found = {name: _entry(describe_for(sources[name], head), key, f"data.{name}") for name in names}
    values = list(found.values())
    if any(value != values[0] for value in values):
        listed = "; ".join(f"data.{name}: {value}" for name, value in found.items())
        raise UsageError(f"{key}: expected the same in all data sets of a head, got {listed}")
    return values[0]


def describe_for(source: Any, head: str) -> Mapping[str, Any]:
    """The description of a data set, including what it describes for a head alone."""
    described: dict[str, Any] = source.describe()
    kind = getattr(source, "targets", {}).get(head)
    return {**described, **described.get("targets", {}).get(kind, {})}


def _entry(described: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in described:
        raise UsageError(unknown(where, key, described))
    return described[key]


def training_sources(sources: Mapping[str, Any], head: str) -> list[str]:
    """The names of the data sets that train a head."""
    return [name for name, source in sources.items() if head in source.heads]


def _head_of(node: Container | None) -> str:
    """The name of the head that a configuration node belongs to; empty outside `heads`."""
    while node is not None:
        parent = node._get_parent()
        if parent is not None and parent._key() == "heads":
            return str(node._key())
        node = parent  # type: ignore[assignment]
    return ""
