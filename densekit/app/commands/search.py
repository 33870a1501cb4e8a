"""`densekit search`: who in a gallery looks like this?

N entries of the gallery, E the size of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._names import counted
from densekit.app.commands.predict import find_images
from densekit.app.errors import UsageError
from densekit.app.options import existing, number, split_options
from densekit.app.prediction.embedder import OPTIONS, Embedder
from densekit.app.report import print_lines
from densekit.app.results.embeddings import read_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

INDICES = ("exact", "faiss")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; 1 if a picture of the gallery was broken, 0 if none was."""
    defaults = {**OPTIONS, "gallery": None, "top": 5, "index": "exact"}
    options, words = split_options(arguments, defaults)
    if len(words) != 1:
        raise UsageError(
            f"densekit search: one picture, found {len(words)}: densekit search checkpoint=PATH"
            " PICTURE gallery=FOLDER"
        )
    if options["index"] not in INDICES:
        raise UsageError(f"index={options['index']}: accepted are {', '.join(INDICES)}")
    top = int(number("search", "top", options["top"], at_least=1))
    probe = existing("search", "PICTURE", words[0])
    gallery = existing("search", "gallery", options["gallery"])
    embed = Embedder("search", options)
    threshold = embed.threshold(options)
    files, entries, broken = _gallery(gallery, embed)
    vector = embed([probe])
    if vector.shape[1] != entries.shape[1]:
        raise UsageError(
            f"gallery={gallery}: embeddings of {entries.shape[1]} numbers, the checkpoint's have"
            f" {vector.shape[1]}"
        )
    find = exact if options["index"] == "exact" else with_faiss
    scores, places = find(entries, vector, min(top, len(files)))
    if threshold is not None:
        print_lines(f"threshold:  {threshold}")
    for score, place in zip(scores[0], places[0], strict=True):
        accepted = "" if threshold is None else "same " if score >= threshold.value else "     "
        print_lines(f"{score:.4f}  {accepted}{files[place]}")
    if broken:
        print_lines(f"{counted(len(broken), 'image')} could not be read:", *broken)
    return 1 if broken else 0


def exact(
    entries: NDArray[Any], probes: NDArray[Any], top: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Compares everything with everything.

    Args:
        entries: (N, E) of length 1.
        probes: (Q, E) of length 1.
        top: How many to return, at most N.

    Returns:
        Similarities and places in the gallery, (Q, top) each, by falling similarity.
    """
    import numpy as np

    scores = probes @ entries.T  # (Q, N)
    places = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(scores, places, axis=1), places


def with_faiss(
    entries: NDArray[Any], probes: NDArray[Any], top: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same by faiss, for large galleries; see `exact`.

    Raises:
        ImportError: faiss is not installed.
    """
    import numpy as np

    from densekit._extras import need

    index = need("faiss", "index=faiss", "faces").IndexFlatIP(entries.shape[1])
    index.add(np.ascontiguousarray(entries, dtype=np.float32))
    found: tuple[NDArray[Any], NDArray[Any]] = index.search(probes.astype(np.float32), top)
    return found


def _gallery(path: Path, embed: Embedder) -> tuple[list[str], NDArray[Any], list[str]]:
    """File names and embeddings, of a folder or of what `densekit predict` has written.

    The third is a message for each picture that cannot be read.
    """
    if path.is_file() and path.suffix in (".npz", ".parquet"):
        return *read_embeddings(path), []
    files, vectors, broken = embed.readable(find_images(str(path))[0])
    return [str(file) for file in files], vectors, broken
