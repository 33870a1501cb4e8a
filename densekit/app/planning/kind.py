"""Whether a plan is for volumes or for boxes."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from densekit.app.config.compose import compose
from densekit.app.config.overrides import Overrides
from densekit.app.errors import UsageError
from densekit.app.planning.recipe import readers_of_volumes

DATA_KEYS = ("data", "vars", "experiment", "paths", "trust", "resize")
"""Overrides that the data may depend on."""


def is_of_volumes(given: Overrides) -> bool:
    """Whether the data set that the command line chooses has volumes; nothing is read.

    Raises:
        UsageError: No data set is chosen, or it is unknown.
    """
    if "data" not in given.keys and "experiment" not in given.keys:
        raise UsageError("data: expected a data set, got nothing; densekit plan data=NAME")
    cfg = compose(given.where(lambda word: word.key.partition(".")[0] in DATA_KEYS)).cfg
    nodes: Any = OmegaConf.to_container(OmegaConf.create({"of": cfg.data, "vars": cfg.vars}))
    return bool(readers_of_volumes(nodes, "", list(cfg.trust)))
