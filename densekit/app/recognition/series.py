"""Recognises the series of the UCR and UEA archives: `NAME_TRAIN.ts` and `NAME_TEST.ts`."""

from __future__ import annotations

from densekit.app.recognition.found import Found, below, node
from densekit.app.recognition.tree import Tree


def recognise(tree: Tree) -> list[Found]:
    """Series with their official split."""
    files = [f for f in tree.files if f.lower().endswith((".ts",)) and "/" not in f]
    names = {file.rpartition("_")[2][:-3].lower() for file in files}
    if not {"train", "test"} <= names:
        return []
    scaled = {"intensity": {"kind": "zscore"}}
    splits = {
        split: node("UcrSeries", root=below(""), split=split, **scaled)
        for split in ("train", "test")
    }
    return [Found("series", f"{' and '.join(files)}", "series", tree.root, splits)]
