"""Files of published models: what stands for `checkpoint=SOURCE` when it is no path."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import torch

from densekit.backbones.weights import fetch
from densekit.interop import hub
from densekit.interop.sources import ADDRESSES, convert

logger = logging.getLogger(__name__)


def checkpoint_of(source: str) -> Path:
    """The checkpoint of a published model, in torch's cache.

    The model is converted each time, which takes seconds: a cached result would be that of the
    version that wrote it.

    Args:
        source: `torchvision:NAME`, `timm:NAME`, `hub:OWNER/REPO`, or the URL, with its hash, of a
            checkpoint of densekit.

    Raises:
        ConnectionError: It cannot be downloaded.
        ValueError: It is unknown or does not convert.
    """
    if source.startswith(ADDRESSES):
        return fetch(source)
    if source.startswith(hub.SCHEME):
        return hub.pull(source)
    name = re.sub(r"[^\w.-]", "-", source)
    path = Path(torch.hub.get_dir()) / "checkpoints" / f"densekit-{name}.ckpt"
    found = convert(source)
    found.save(path)
    logger.info("%s: %s, converted to %s", source, found.source, path)
    return path
