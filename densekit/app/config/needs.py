"""What the heads of a configuration need of its data sets: `${heads_need:object_masks}`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from densekit.app.config.signatures import attribute
from densekit.app.errors import UsageError
from densekit.build import find_class


def heads_need(key: str, *, _root_: DictConfig) -> bool:
    """Whether any head of the configuration has a key of `Batch` in its class's `target_keys`.

    Raises:
        UsageError: A head's class is not trusted or does not exist.
    """
    trust = list(_root_.get("trust") or ())
    heads = {name: node for name, node in (_root_.get("heads") or {}).items() if node}
    return any(key in target_keys(node, f"heads.{name}", trust) for name, node in heads.items())


def target_keys(node: Mapping[str, Any], name: str, trust: Sequence[str]) -> tuple[str, ...]:
    """The `target_keys` of a head's class; none if only its instances have them.

    Args:
        node: The head's configuration.
        name: Its key.
        trust: Further packages whose classes may be built.

    Raises:
        UsageError: The class is not trusted or does not exist.
    """
    path = str(node.get("_target_"))
    keys = attribute(path, "target_keys")
    if keys is None:
        try:
            found: Any = find_class(path, name, trust)
        except ValueError as error:
            raise UsageError(str(error)) from error
        keys = getattr(found, "target_keys", ())
    return keys if isinstance(keys, tuple) else ()


OmegaConf.register_new_resolver("heads_need", heads_need, replace=True)
