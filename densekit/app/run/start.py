"""Starts a run from a checkpoint's weights, which must fit unless an option says otherwise."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._names import unknown
from densekit.app.config.data_info import model_info
from densekit.app.errors import UsageError
from densekit.app.run.keep import with_kept
from densekit.build import build_model
from densekit.trust import MODEL, without_weights

if TYPE_CHECKING:
    from torch import Tensor

    from densekit.model import DenseModel

State = dict[str, "Tensor"]
logger = logging.getLogger(__name__)


def initial_model(cfg: Mapping[str, Any], sources: Mapping[str, Any]) -> DenseModel:
    """Builds the model that a run begins with.

    Args:
        cfg: Resolved configuration.
        sources: Its data sets by name.

    Raises:
        UsageError: The checkpoint does not fit, see `start_from`.
    """
    info = with_kept(model_info(sources, cfg["heads"], cfg["resize"]), cfg.get("kept"))
    # The weights of a resumed run replace all others.
    parts = {key: without_weights(cfg[key]) for key in MODEL} if cfg["resume"] else {}
    model = build_model({**cfg, **parts}, info)
    if cfg["checkpoint"]:
        start_from(model, cfg)
    return model


def start_from(model: DenseModel, cfg: Mapping[str, Any]) -> None:
    """Loads `cfg["checkpoint"]` into a fresh model.

    Backbone and neck must fit tensor for tensor; levels that only one of the two has are logged. A
    head that both have must fit too, with the same classes in the same order, unless it is in
    `reset_head` or `map_classes_by_name` is true. The digests of identities must be equal. Heads
    that only the model has start fresh, those that only the checkpoint has are not loaded; both are
    logged.

    Raises:
        UsageError: Something does not fit; the message names the option that allows it.
    """
    from densekit.artifact import check_finite_weights, load_artifact

    path = Path(cfg["checkpoint"])
    artifact = load_artifact(path)
    found: State = artifact["state_dict"]
    check_finite_weights(found, path)
    own: State = model.state_dict()
    reset = _reset_heads(cfg["reset_head"], model)
    taken = {k: v for k, v in found.items() if not k.startswith("heads.")}
    _check_shapes(path, taken, own)
    taken = {name: value for name, value in taken.items() if name in own}
    known = artifact["info"].get("heads", {})
    kept = (cfg.get("kept") or {}).get("heads", {})
    for head in model.heads:
        tensors = _below(found, f"heads.{head}.")
        if not tensors or head in reset:
            continue
        before, now = known.get(head, {}), model.info["heads"][head]
        classes = before.get("names"), now.get("names")
        if "num_identities" in now and head not in kept:
            _check_identities(path, head, before, now)
        if classes[0] == classes[1]:
            _check_shapes(path, tensors, own, head)
        elif cfg["map_classes_by_name"]:
            tensors = _mapped(path, head, tensors, own, classes, class_rows(cfg, model, head))
        else:
            raise UsageError(_other_classes(path, head, *classes))
        taken |= tensors
    if not taken:
        raise UsageError(
            f"checkpoint={path}: expected tensors of this model, got {len(found)} others"
        )
    for part in cfg["training"].get("transfer", {}).get("frozen", ()):
        fresh = [name for name in _below(own, f"{part}.") if name not in taken]
        if fresh:
            raise UsageError(
                f"checkpoint={path}: expected all tensors of {part}, which is frozen, got no"
                f" {fresh[0]}: a head reads a level that the checkpoint's network did not have"
            )
    model.load_state_dict(taken, strict=False)
    _log_loaded(path, taken, found, own)


def class_rows(cfg: Mapping[str, Any], model: DenseModel, head: str) -> dict[str, int]:
    """Maps the names of a head's per-class tensors to their number of rows per class.

    They are the tensors that grow when the head is built for one class more.

    Raises:
        UsageError: The head is not built from `num_classes`.
    """
    import torch

    node = cfg["heads"][head]
    if "num_classes" not in node:
        raise UsageError(
            f"map_classes_by_name: expected a head with num_classes, got heads.{head};"
            f" reset_head=[{head}] starts it fresh"
        )
    larger = {**node, "num_classes": int(node["num_classes"]) + 1}
    backbone = without_weights(cfg["backbone"])
    with torch.device("meta"):
        grown = build_model(
            {**cfg, "backbone": backbone, "heads": {**cfg["heads"], head: larger}}, model.info
        ).state_dict()
    own: State = model.state_dict()
    rows = {name: len(grown[name]) - len(v) for name, v in own.items() if v.ndim}
    return {name: count for name, count in rows.items() if count}


def _mapped(
    path: Path,
    head: str,
    found: State,
    own: State,
    classes: tuple[Sequence[str] | None, Sequence[str] | None],
    rows: Mapping[str, int],
) -> State:
    """The head's tensors with the rows of each class that both know at its new index."""
    old, new = classes
    if not old or not new:
        raise UsageError(f"checkpoint={path}: heads.{head}: expected class names to map, got none")
    kept = {name: (old.index(name), new.index(name)) for name in new if name in old}
    if not kept:
        raise UsageError(
            f"checkpoint={path}: heads.{head}: expected some of {list(new)}, got {list(old)};"
            f" reset_head=[{head}] starts the head fresh"
        )
    mapped: State = {}
    for name, value in found.items():
        if name not in rows:
            _check_shapes(path, {name: value}, own, head)
            mapped[name] = value
            continue
        count, fresh = rows[name], own[name].clone()
        for before, after in kept.values():
            source = value[before * count : (before + 1) * count]
            fresh[after * count : (after + 1) * count] = source
        rest = len(value) - len(old) * count  # of the background, after the classes
        if rest > 0:
            fresh[len(new) * count :] = value[len(old) * count :]
        mapped[name] = fresh
    table = ", ".join(f"{name} {'kept' if name in kept else 'fresh'}" for name in new)
    dropped = [name for name in old if name not in new]
    logger.warning(
        "%s: heads.%s: %s%s", path, head, table, f"; dropped: {', '.join(dropped)}" * bool(dropped)
    )
    return mapped


def _check_shapes(path: Path, found: State, own: State, head: str = "") -> None:
    """Refuses tensors that the model has in another shape."""
    wrong = [k for k, v in found.items() if k in own and own[k].shape != v.shape]
    if wrong:
        name = wrong[0]
        hint = f"; reset_head=[{head}] starts the head fresh" if head else ""
        raise UsageError(
            f"checkpoint={path}: {name}: expected shape {tuple(own[name].shape)}, got"
            f" {tuple(found[name].shape)} ({len(wrong)} such tensors){hint}"
        )


def _reset_heads(asked: bool | Sequence[str], model: DenseModel) -> list[str]:
    heads = list(model.heads)
    if isinstance(asked, bool):
        return heads if asked else []
    for name in asked:
        if name not in heads:
            raise UsageError(unknown("reset_head", name, heads))
    return list(asked)


def _other_classes(
    path: Path, head: str, old: Sequence[str] | None, new: Sequence[str] | None
) -> str:
    return (
        f"checkpoint={path}: heads.{head}: expected {_listed(new)} as in the data, got"
        f" {_listed(old)}; reset_head=[{head}] starts the head fresh, map_classes_by_name=true"
        " keeps what the checkpoint knows of classes of the same name"
    )


def _check_identities(
    path: Path, head: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Refuses centres of other identities, even if there are equally many."""
    own, found = now.get("identities"), before.get("identities")
    if own is not None and own == found:
        return
    if own is None or found is None:
        reason = f"{'a checkpoint' if found is None else 'data'} without a digest of identities"
    else:
        counts = before.get("num_identities"), now["num_identities"]
        reason = f"{counts[0]} identities, of which the data have {counts[1]} others"
    raise UsageError(
        f"checkpoint={path}: heads.{head}: expected centres of the identities of the data, got"
        f" {reason}; reset_head=[{head}] starts the head fresh"
    )


def _listed(names: Sequence[str] | None) -> str:
    if not names:
        return "classes without names"
    shown = ", ".join(map(str, names[:8]))
    return f"{len(names)} classes ({shown}{', ...' if len(names) > 8 else ''})"


def _below(state: State, prefix: str) -> State:
    return {name: value for name, value in state.items() if name.startswith(prefix)}


def _log_loaded(path: Path, taken: State, found: State, own: State) -> None:
    """Logs which parts start fresh and which are not loaded."""
    fresh = _parts(name for name in own if name not in taken)
    left = _parts(name for name in found if name not in own)
    logger.info("%s: loaded %d of %d tensors", path, len(taken), len(own))
    if fresh:
        logger.warning("%s: start fresh: %s", path, ", ".join(fresh))
    if left:
        logger.warning("%s: not loaded: %s", path, ", ".join(left))


def _parts(names: Any) -> list[str]:
    """The distinct first two components of names, such as `heads.detection`."""
    return list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
