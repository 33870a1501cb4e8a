"""torchvision's compiled operators, without the import of torchvision.

`import torchvision` also imports its models, its data sets and PyTorch's compiler, which takes a
second at each start of a command that suppresses boxes and uses nothing else of it.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.machinery import PathFinder

import torch

LIBRARIES = ("_C_stable", "_C")
"""Names of the compiled library inside the package, of newer and of older versions."""


def register() -> None:
    """Registers the operators `torch.ops.torchvision`; a later `import torchvision` adds to them.

    Raises:
        ImportError: torchvision is not installed.
    """
    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations if package else None
    for name in LIBRARIES:
        library = PathFinder.find_spec(name, folders) if folders else None
        if library and library.origin:
            try:
                torch.ops.load_library(library.origin)
                return
            except OSError:  # Windows: its DLLs are found by the package alone
                break
    importlib.import_module("torchvision")
