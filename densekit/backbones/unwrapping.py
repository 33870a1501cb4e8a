"""A network's tensors inside the files of trainings: nested, below a prefix, beside other networks.

Self-supervised pre-training keeps two networks, of which one is meant to be used, and a projection
head, which is not: MoCo (`module.encoder_q.`), DINO (`teacher`, `backbone.`), BYOL, SimCLR, SwAV.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

NESTED = ("state_dict", "model", "teacher", "model_state_dict", "blobs")
"""Keys below which trainings keep the tensors; torch's and timm's references, DINO, Caffe2."""
FOLLOWERS = (
    (r"encoder_k(?=\.)", "encoder_q"),  # MoCo: momentum and query encoder
    (r"student(?=\.)", "teacher"),  # DINO
    (r"target_(\w+)(?=\.)", r"online_\1"),  # BYOL
    (r"target(?=\.)", "online"),
    (r"momentum_(\w+)(?=\.)", r"\1"),  # solo-learn
    (r"(\w+)_momentum(?=\.)", r"\1"),  # lightly
    (r"(\w+)_m(?=\.)", r"\1"),
)
"""Part of the prefix of a network that is not meant to be used, and what the other has instead."""

QUEUES = ("queue", "queue_ptr")
"""Tensors of the negatives of MoCo."""
_PROJECTION = re.compile(
    r"(^|\.)(fc|head|heads|projector|projection|projection_head|proj|predictor|prediction_head"
    r"|prototypes|mlp|last_layer)(_momentum|_ema)?\."
)
_OWN = re.compile(r"(conv1|bn1|layer\d)\.")


def tensors_of(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a file's content, also nested under one of the usual keys.

    Args:
        content: What the file holds.

    Returns:
        Names and tensors; empty if there are none. Other values are left out.
    """
    for key in NESTED:
        if isinstance(content.get(key), Mapping):
            content = content[key]
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def chosen_prefix(prefixes: Iterable[str]) -> str | None:
    """The prefix of the network that is meant to be used, of several in one file.

    Args:
        prefixes: "module.encoder_q." and "module.encoder_k.", for example.

    Returns:
        None if it is not clear which one that is, or there is none.
    """
    found = set(prefixes)
    used = {prefix for prefix in found if not _follows(prefix, found)}
    return used.pop() if len(used) == 1 else None


def is_of_pretraining(name: str) -> bool:
    """Whether a tensor beside a ResNet's own belongs to a projection head or a queue.

    Args:
        name: Without the network's prefix.
    """
    return name.endswith(QUEUES) or bool(_PROJECTION.search(name) and not _OWN.match(name))


def _follows(prefix: str, others: set[str]) -> bool:
    """Whether a network is the moving average of another one, or the one that is trained for it."""
    changed = (re.sub(pattern, kept, prefix) for pattern, kept in FOLLOWERS)
    return any(other != prefix and other in others for other in changed)
