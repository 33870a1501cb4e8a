"""Recognises folders of images named for their classes, or for people."""

from __future__ import annotations

from statistics import median

from densekit.app.recognition.found import WHOLE, Found, Node, below, node
from densekit.app.recognition.masks import is_mask_folder
from densekit.app.recognition.tree import SPLIT_WORDS, Tree

MANY_PEOPLE = 20
"""Folders from which on they may be people."""
FEW_IMAGES = 30
"""Images per folder up to which they may be people."""


def recognise(tree: Tree) -> list[Found]:
    """One folder per class, or per person; with a folder per split above them or not."""
    if tree.only:
        return []
    counts = _counts(tree)
    splits = {SPLIT_WORDS[name.lower()]: name for name in counts if name.lower() in SPLIT_WORDS}
    if "train" in splits and len(splits) == len(counts):
        found = _divided(tree, splits)
        return [found] if found else []
    if len(counts) < 2 or _plain_images(tree, "") or any(is_mask_folder(name) for name in counts):
        return []
    text = f"{len(counts):,} folders of images: {_listed(list(counts))}"
    whole = node("ImageFolder", root=below(""))
    classes = Found("classes", text, "classes", tree.root, {WHOLE: whole}, certain=False)
    if len(counts) < MANY_PEOPLE or median(counts.values()) > FEW_IMAGES:
        return [classes]
    return [_people(tree, list(counts), text), classes]


def _divided(tree: Tree, splits: dict[str, str]) -> Found | None:
    """The classes of a folder per split."""
    classes = {s: _counts(tree, f"{name}/") for s, name in splits.items()}
    labelled = {
        s: names
        for s, names in classes.items()
        if len(names) and not _plain_images(tree, splits[s])
    }
    names = sorted({name for found in labelled.values() for name in found})
    if "train" not in labelled or len(names) < 2 or any(map(is_mask_folder, names)):
        return None
    same = all(sorted(found) == names for found in labelled.values())
    nodes = {
        split: node("ImageFolder", root=below(splits[split]), names=None if same else names)
        for split in labelled
    }
    left_out = [name for split, name in splits.items() if split not in labelled]
    notes = tuple(f"{name}: images without a folder per class, not used" for name in left_out)
    text = f"{len(names):,} folders of images per split: {_listed(names)}"
    return Found("classes", text, "classes", tree.root, nodes, notes)


def _people(tree: Tree, names: list[str], text: str) -> Found:
    """Every fifth person is kept for validation: people who are not trained on."""
    held_out = names[::5]
    train = node(
        "IdentityFolder", root=below(""), identities=[n for n in names if n not in held_out]
    )
    unseen: Node = node("IdentityFolder", root=below(""), identities=held_out)
    hint = (
        "folders may be classes as well: format=classes learns to tell these apart, not new people"
    )
    splits = {"train": train, "val": node("OpenSet", data=unseen)}
    return Found("identities", text, "identities", tree.root, splits, (hint,))


def _counts(tree: Tree, start: str = "") -> dict[str, int]:
    """Images below each folder that is directly below `start`."""
    found: dict[str, int] = {}
    for image in tree.images:
        name, slash, _ = image[len(start) :].partition("/")
        if image.startswith(start) and slash:
            found[name] = found.get(name, 0) + 1
    return found


def _plain_images(tree: Tree, folder: str) -> bool:
    return bool(tree.image_folders.get(folder))


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + ", ..." * (len(names) > 5)
