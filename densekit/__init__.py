"""One backbone, any head: dense prediction composed by Hydra and trained by Lightning."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from densekit._lazy import lazy

_public, _names, __all__ = lazy(
    __name__,
    {
        "DenseModel": "model",
        "Predictor": "inference",
        "compose": "app.run.experiment",
        "train": "app.run.experiment",
    },
)


def __getattr__(name: str) -> Any:
    """Imports public names on first use."""
    # The lookup reads the installed metadata: not at import, which has to be quick.
    return version("densekit") if name == "__version__" else _public(name)


def __dir__() -> list[str]:
    """The public names, for completion in a shell."""
    return [*_names(), "__version__"]
