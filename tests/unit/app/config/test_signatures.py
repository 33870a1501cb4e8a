"""What the source of a class says is what Python says once it is imported."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest
import yaml

import densekit.conf
from densekit.app.config.signatures import METRIC_ARGUMENTS, signature
from densekit.app.config.targets import _inherited, _own
from densekit.build import TORCH_CLASSES, find_class, walk

PACKAGES = (
    *("backbones", "data", "heads", "inference", "losses", "metrics", "necks", "training"),
    *("heads.embedding", "heads.faster_rcnn", "heads.segmentation"),
)


def _shipped() -> set[str]:
    (folder,) = densekit.conf.__path__
    files = [yaml.safe_load(file.read_text()) for file in Path(folder).rglob("*.yaml")]
    nodes = [node for file in files for _, node in walk(file)]
    return {
        str(node["_target_"]) for node in nodes if isinstance(node, dict) and "_target_" in node
    }


def _public() -> set[str]:
    found = set()
    for package in PACKAGES:
        module = importlib.import_module(f"densekit.{package}")
        for name in module.__all__:
            if inspect.isclass(getattr(module, name)):
                found.add(f"densekit.{package}.{name}")
    return found


@pytest.mark.parametrize("path", sorted(_shipped() | _public() | set(TORCH_CLASSES)))
def test_source_and_python_agree(path: str) -> None:
    read = signature(path)
    if read is None:  # only Python can tell
        return
    found = find_class(path)
    names, is_open = _own(found)
    if is_open and not read.is_open:
        assert (inherited := _inherited(found)) is not None
        names |= inherited
    assert set(read.types) - set(METRIC_ARGUMENTS) == names - set(METRIC_ARGUMENTS)


def test_most_classes_are_read() -> None:
    shipped = _shipped()
    assert sum(signature(path) is None for path in shipped) <= len(shipped) // 20
