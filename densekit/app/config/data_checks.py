"""Checks data sets against the heads that they train and the callbacks that monitor them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from densekit._names import is_file_name, unknown
from densekit.app.config.data_info import describe_for, training_sources
from densekit.app.config.monitor import MAIN, OWN
from densekit.app.config.needs import target_keys
from densekit.app.errors import UsageError

logger = logging.getLogger(__name__)

LONGEST = 100
"""Bytes of a data set's name, which becomes a part of the names of files."""


def check_heads(sources: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
    """Refuses a data set for a head that does not exist."""
    if not heads:
        raise UsageError("heads: expected at least one, got none; for example head=faster_rcnn")
    if not sources:
        raise UsageError("data: expected at least one, got none; for example data=scenes")
    if "loss" in sources:
        raise UsageError("data.loss: expected another name, got that of the total loss")
    for source, described in sources.items():
        if not is_file_name(str(source), LONGEST):
            raise UsageError(
                f"data: expected names of at most {LONGEST} characters that can stand in the name"
                f" of a file, got {source!r}"
            )
        for head in described.heads:
            if head not in heads:
                raise UsageError(unknown(f"data.{source}.heads", head, heads))


def check_trained(sources: Mapping[str, Any], heads: Iterable[str]) -> None:
    """Refuses a head that no data set trains."""
    for head in heads:
        named = training_sources(sources, head)
        if not named:
            names = ", ".join(f"data.{source}.heads" for source in sources)
            raise UsageError(
                f"heads.{head}: expected a data set that trains it, got none; name it in {names}"
            )
        if all(sources[name].train is None for name in named):
            names = ", ".join(f"data.{name}.train" for name in named)
            raise UsageError(
                f"heads.{head}: expected a data set with training images, got none in {names}"
            )


def warn_of_unseen_classes(sources: Mapping[str, Any]) -> None:
    """Warns of classes without a training mask or box, which the network cannot learn."""
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


def check_order(sources: Mapping[str, Any]) -> None:
    """Refuses to draw training images in a way that does not fit them: shares of other parts.

    Raises:
        UsageError: Names the data set.
    """
    for name, source in sources.items():
        if source.train is not None:
            try:
                source.train_sampler()
            except ValueError as error:
                raise UsageError(f"data.{name}: {error}") from error


def check_num_classes(sources: Mapping[str, Any], heads: Mapping[str, Any]) -> None:
    """Refuses a head with fewer classes than its data: the last ones would become background.

    Args:
        sources: Data sets by name.
        heads: Resolved head configurations by name.
    """
    for head, node in heads.items():
        for source in training_sources(sources, head):
            needed = describe_for(sources[source], head).get("num_classes")
            given = node.get("num_classes") if isinstance(node, Mapping) else None
            if isinstance(given, int) and isinstance(needed, int) and given < needed:
                names = ", ".join(map(str, describe_for(sources[source], head).get("names", ())))
                raise UsageError(
                    f"heads.{head}.num_classes: expected {needed} as in data.{source} ({names}),"
                    f" got {given}; leave it out"
                )


def check_object_masks(
    sources: Mapping[str, Any], heads: Mapping[str, Any], trust: Sequence[str]
) -> None:
    """Refuses data without masks of objects for a head that learns them.

    Args:
        sources: Data sets by name.
        heads: Resolved head configurations by name.
        trust: Further packages whose classes may be built.
    """
    for head, node in heads.items():
        if "object_masks" not in target_keys(node, f"heads.{head}", trust):
            continue
        for source in training_sources(sources, head):
            train = sources[source].train
            if train is not None and not _has_masks(train):
                learner = str(node["_target_"]).rpartition(".")[2]
                raise UsageError(
                    f"data.{source}.train: expected masks of objects, which heads.{head}"
                    f" ({learner}) learns, got boxes alone; set instance_masks=true of a class that"
                    " reads outlines (CocoDetection, YoloDetection, IdMasks) if the files have any,"
                    " or choose a head of boxes, such as head=faster_rcnn"
                )


def _has_masks(dataset: Any) -> bool:
    """Whether samples have masks of objects; files without a single outline have none.

    True if the first image cannot be read, which is reported elsewhere.
    """
    from densekit.data.detection.dataset import BoxDataset
    from densekit.data.subset import unwrapped

    base, _ = unwrapped(dataset)
    if isinstance(base, BoxDataset):
        return base.has_outlines
    try:
        return "instance_masks" in dataset[0]
    except ValueError:
        return True


def check_monitors(
    callbacks: Mapping[str, Any], sources: Mapping[str, Any], heads: Mapping[str, Any]
) -> None:
    """Refuses a callback that monitors a metric of an unknown head or data set.

    Metric names are checked once the metrics are built, see `densekit.app.config.monitor`.

    Args:
        callbacks: Name to configuration.
        sources: Data sets by name.
        heads: Configurations of the heads and of what is combined of them, by name.
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
            raise UsageError(unknown(f"callbacks.{name}.monitor: {monitor}", parts[1], accepted))


def check_resize(resize: Mapping[str, Any] | None, sources: Mapping[str, Any]) -> None:
    """Refuses a resize rule that is wrong or does not apply to the images of a data set."""
    if resize is None:
        return
    from densekit.ops.resize import check_rule

    for name, source in sources.items():
        described = source.describe()
        try:
            check_rule(resize, described.get("spatial_dims", 2), described.get("slices"))
        except ValueError as error:
            raise UsageError(f"data.{name}: {error}") from error
