"""Builds the parts of a run on trial, so that classes check their own arguments.

Wrong arguments are refused before there is a run folder and before any weights are loaded.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from densekit.app.config.trainer import FSDP, strategy_of
from densekit.app.errors import UsageError
from densekit.build import build_model, instantiate
from densekit.trust import MODEL, without_weights


def rehearse(cfg: Mapping[str, Any], info: Mapping[str, Any]) -> None:
    """Builds model, optimiser, schedule, callbacks and trainer without memory or files.

    Args:
        cfg: Resolved configuration.
        info: The `info` that the model will have.

    Raises:
        ValueError: A class refuses an argument; the message begins with the key of its node.
    """
    import torch

    if not cfg["resume"]:  # whose weights replace all others
        _check_weights(cfg["backbone"])
    # A head of a plug-in may compute with its parameters, which have no values here.
    model = None
    meta = torch.device("meta")
    with meta, _unlogged(), contextlib.suppress(NotImplementedError, RuntimeError):
        model = build_model({**cfg, **{key: without_weights(cfg[key]) for key in MODEL}}, info)
    with _refused("optimizer"):
        instantiate(cfg["optimizer"], "optimizer")([torch.nn.Parameter(torch.zeros(1))])
    instantiate(cfg["schedule"], "schedule")
    callbacks = []
    for name, node in cfg["callbacks"].items():
        if node is not None:
            with _refused(f"callbacks.{name}"):  # Lightning's have messages of their own form
                callbacks.append(instantiate(node, f"callbacks.{name}"))
    with _refused("trainer"), _silent():
        make = instantiate({**cfg["trainer"], "_partial_": True}, "trainer")
        auto = cfg["trainer"].get("precision") == "auto"  # resolved later, for the real model
        precision = {"precision": None} if auto else {}
        trainer = make(logger=False, **strategy_of(cfg["trainer"]), **precision)
    if cfg["trainer"].get("strategy") == FSDP:
        from densekit.training.fsdp import check_fsdp

        compiled = bool(cfg["training"].get("compile"))
        check_fsdp(model, callbacks, str(trainer.precision), compiled=compiled)


def _check_weights(backbone: Mapping[str, Any]) -> None:
    """Refuses weights of one of our backbones that cannot be found."""
    from densekit.backbones.weights import check_source

    weights = backbone.get("weights")
    if isinstance(weights, str) and str(backbone["_target_"]).startswith("densekit."):
        try:
            check_source(weights)
        except (ValueError, ImportError) as error:
            raise UsageError(f"backbone.{error}") from error


@contextlib.contextmanager
def _refused(key: str) -> Iterator[None]:
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    try:
        yield
    except UsageError:
        raise
    except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:
        message = str(error)
        raise UsageError(message if message.startswith(key) else f"{key}: {message}") from error


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Keeps from the log what building the real model will say again."""
    log = logging.getLogger("densekit")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(before)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Silences Lightning, which repeats all it logs here for the real trainer."""
    log = logging.getLogger("lightning")
    before, log.disabled = log.disabled, True
    children = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [child.level for child in children]
    for child in children:
        child.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before
        for child, level in zip(children, levels, strict=True):
            child.setLevel(level)
