"""What the data says of itself, for the configuration and for the model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import Container, OmegaConf

from densekit.app.config.monitor import MAIN, OWN
from densekit.app.errors import UsageError
from densekit.build import nearest

logger = logging.getLogger(__name__)

HEAD_KEYS = ("names", "ids", "num_classes")
IDENTITY_KEYS = ("num_identities", "identities")
"""What a data set of identities says in their place; the second, a digest of names, if it can."""
MASK_KEYS = ("background", "multilabel", "plane_values", "regions_class_order")
"""What a data set with semantic masks says of them too."""
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


def check_heads(sources: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
    """Refuses a data set for a head that is not there."""
    if not heads:
        raise UsageError("heads: none chosen, for example head=faster_rcnn")
    if not sources:
        raise UsageError("data: none chosen, for example data=scenes")
    if "loss" in sources:
        raise UsageError("data.loss: expected another name, got that of the total loss")
    for source, described in sources.items():
        for head in described.heads:
            if head not in heads:
                hint = nearest(head, heads)
                raise UsageError(f"data.{source}.heads: there is no head {head!r}. {hint}")


def check_trained(sources: Mapping[str, Any], heads: Iterable[str]) -> None:
    """Refuses a head that no data set trains."""
    for head in heads:
        named = _trainers(sources, head)
        if not named:
            names = ", ".join(f"data.{source}.heads" for source in sources)
            raise UsageError(f"heads.{head}: no data set trains it; name it in {names}")
        if all(sources[name].train is None for name in named):
            names = ", ".join(f"data.{name}.train" for name in named)
            raise UsageError(f"heads.{head}: no data set trains it; {names}: no training images")


def say_unseen_classes(sources: Mapping[str, Any]) -> None:
    """Names the classes that no training mask or box is of: nothing can be learned of them."""
    from densekit.data.detection.dataset import classes_without_objects
    from densekit.data.foreground import unseen_classes

    for name, source in sources.items():
        boxless = classes_without_objects(source.train) if source.train is not None else []
        if boxless:
            logger.warning(
                "data.%s.train: no object of %d of its classes: %s; the network cannot learn them,"
                " `names` of the data set leaves them out",
                *(name, len(boxless), ", ".join(map(repr, boxless[:10]))),
            )
        missing, looked = unseen_classes(source.train) if source.train is not None else ([], 0)
        if missing:
            logger.warning(
                "data.%s.train: no pixel of %s in %d masks: the network cannot learn it",
                *(name, ", ".join(map(repr, missing)), looked),
            )


def check_num_classes(sources: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
    """Refuses a head for fewer classes than its data have: the last ones would be background.

    Args:
        sources: Data sets by name.
        heads: Resolved head configurations by name.
    """
    for head, node in heads.items():
        for source in _trainers(sources, head):
            needed = describe_for(sources[source], head).get("num_classes")
            given = node.get("num_classes") if isinstance(node, Mapping) else None
            if isinstance(given, int) and isinstance(needed, int) and given < needed:
                names = ", ".join(map(str, describe_for(sources[source], head).get("names", ())))
                raise UsageError(
                    f"heads.{head}.num_classes: expected {needed} as in data.{source} ({names}),"
                    f" got {given}; leave it out"
                )


def check_monitors(
    callbacks: Mapping[str, Any], sources: Mapping[str, Any], heads: Mapping[str, Any]
) -> None:
    """Refuses a callback that watches metrics of a head, or data set, that is not there.

    What is left is known once the metrics are built, see `densekit.app.config.monitor`.
    """
    own = all(str(node["_target_"]).startswith(OWN) for node in callbacks.values() if node)
    evaluated = [name for name, source in sources.items() if source.val is not None]
    accepted = evaluated if len(evaluated) > 1 else list(heads)
    for name, node in callbacks.items():
        monitor = node.get("monitor") if isinstance(node, Mapping) else None
        parts = str(monitor).split("/")
        if own and monitor not in (None, MAIN) and parts[0] not in ("val", "train"):
            raise UsageError(
                f"callbacks.{name}.monitor: expected {MAIN} or a metric such as val/HEAD/METRIC,"
                f" got {monitor!r}"
            )
        if len(parts) > 2 and parts[0] == "val" and parts[1] not in accepted:
            hint = nearest(parts[1], accepted)
            raise UsageError(f"callbacks.{name}.monitor: {monitor}: no {parts[1]!r} there. {hint}")


def check_resize(resize: Mapping[str, Any] | None, sources: Mapping[str, Any]) -> None:
    """Refuses a resize rule that is wrong or that the images of a data set cannot follow."""
    if resize is None:
        return
    from densekit.ops.resize import check_rule

    for name, source in sources.items():
        described = source.describe()
        try:
            check_rule(resize, described.get("spatial_dims", 2), described.get("slices"))
        except ValueError as error:
            raise UsageError(f"data.{name}: {error}") from error


def register_data_info(sources: Mapping[str, Any]) -> None:
    """Makes `${data_info:num_classes}` and `${data_info:SOURCE.num_classes}` resolve.

    Within `heads.NAME`, the short form asks the data sets that train this head; elsewhere it asks
    all of them. They have to agree.
    """

    def data_info(path: str, *, _parent_: Container) -> Any:
        source, dot, key = path.rpartition(".")
        if dot:
            if source not in sources:
                raise UsageError(
                    f"${{data_info:{path}}}: no such data set. {nearest(source, sources)}"
                )
            return _entry(sources[source].describe(), key, f"data.{source}")
        head = _head_of(_parent_)
        asked = _trainers(sources, head) if head else list(sources)
        return common_value(sources, asked, key, head)

    OmegaConf.register_new_resolver("data_info", data_info, replace=True)


def model_info(
    sources: Mapping[str, Any], heads: Mapping[str, Any], resize: Mapping[str, int] | None
) -> dict[str, Any]:
    """The model's `info`: what it must know of its data, plain JSON values.

    Args:
        sources: Data sets by name.
        heads: Head configurations by name.
        resize: The rule by which images come into the network's frame, None leaves them.
    """
    from densekit import __version__

    described = [source.describe() for source in sources.values()]
    info: dict[str, Any] = {
        "heads": {
            head: _of_classes(sources, head) | _of_masks(sources, head)
            for head in heads
            if _trainers(sources, head)
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
    """How the pictures of a head of identities come to the network, as its data sets tell."""
    tell = [getattr(sources[name], "prepared", None) for name in _trainers(sources, head)]
    found = [rule for rule in (one() for one in tell if one is not None) if rule]
    if not found:
        return None
    from densekit.data.identification.prepared import joined

    return joined(found)


def _of_classes(sources: Mapping[str, Any], head: str) -> dict[str, Any]:
    """What is told apart: classes with their names, or so many identities."""
    trainers = _trainers(sources, head)
    described = [describe_for(sources[name], head) for name in trainers]
    identities = any(key in one for one in described for key in IDENTITY_KEYS)
    told_of = [key for key in IDENTITY_KEYS if any(key in one for one in described)]
    keys = told_of if identities else HEAD_KEYS
    return {key: common_value(sources, trainers, key, head) for key in keys}


def _of_masks(sources: Mapping[str, Any], head: str) -> dict[str, Any]:
    trainers = _trainers(sources, head)
    described = [describe_for(sources[name], head) for name in trainers]
    keys = [key for key in MASK_KEYS if any(key in one for one in described)]
    return {key: common_value(sources, trainers, key, head) for key in keys}


def common_value(sources: Mapping[str, Any], names: list[str], key: str, head: str = "") -> Any:
    """The entry that the named data sets share, as far as it concerns a head.

    Raises:
        UsageError: They differ, or one does not describe it.
    """
    found = {name: _entry(describe_for(sources[name], head), key, f"data.{name}") for name in names}
    values = list(found.values())
    if any(value != values[0] for value in values):
        said = "; ".join(f"data.{name}: {value}" for name, value in found.items())
        raise UsageError(f"{key}: data sets of one head must agree, but {said}")
    return values[0]


def describe_for(source: Any, head: str) -> Mapping[str, Any]:
    """What a data set says of itself, to a head of what it has for it."""
    described: dict[str, Any] = source.describe()
    kind = getattr(source, "targets", {}).get(head)
    return {**described, **described.get("targets", {}).get(kind, {})}


def _entry(described: Mapping[str, Any], key: str, where: str) -> Any:
    if key not in described:
        raise UsageError(f"{where} does not describe {key!r}. {nearest(key, described)}")
    return described[key]


def _trainers(sources: Mapping[str, Any], head: str) -> list[str]:
    return [name for name, source in sources.items() if head in source.heads]


def _head_of(node: Container | None) -> str:
    """The name of the head a configuration node belongs to, empty outside `heads`."""
    while node is not None:
        parent = node._get_parent()
        if parent is not None and parent._key() == "heads":
            return str(node._key())
        node = parent  # type: ignore[assignment]
    return ""
