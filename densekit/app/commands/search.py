"""`densekit search`: finds the images of a gallery that are most similar to one image.

N is the number of gallery entries, E the size of an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._names import counted
from densekit.app.errors import UsageError
from densekit.app.options.shared import existing
from densekit.app.options.table import Command, Option, choice, parse_command, text, whole
from densekit.app.prediction.embedder import OPTIONS, Embedder
from densekit.app.results.embeddings import read_embeddings
from densekit.app.terminal import print_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

COMMAND = Command(
    name="search",
    usage="checkpoint=PATH IMAGE gallery=PATH [key=value ...]",
    about="""
Prints the images of a gallery that are most similar to one image, the most similar first; `same`
marks those above the threshold, where there is one (see densekit verify --help). The larger the
gallery, the more likely some stranger is above the threshold. Images that cannot be read are listed
at the end, and the exit code is 1.
""",
    examples=(
        "search checkpoint=faces.ckpt probe.png gallery=people",
        "predict checkpoint=faces.ckpt source=people output=gallery",
        "search checkpoint=faces.ckpt probe.png gallery=gallery/embeddings.npz top=20",
    ),
    options=(
        OPTIONS[0],
        Option(
            "gallery",
            text("PATH", "a folder of images or a file of embeddings"),
            None,
            "a folder of images, or embeddings.npz or embeddings.parquet of densekit predict",
            required=True,
        ),
        Option("top", whole(1), 5, "number of images to print"),
        Option(
            "index",
            choice("exact", "faiss"),
            "exact",
            "faiss gives the same result, faster on large galleries (densekit[faces])",
        ),
        *OPTIONS[1:],
    ),
    words=("IMAGE",),
)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 1 if an image of the gallery could not be read."""
    options, words = parse_command(COMMAND, arguments)
    probe = existing("IMAGE", words[0])
    gallery = existing("gallery", options["gallery"])
    embed = Embedder(options)
    threshold = embed.threshold(options)
    files, entries, broken = _gallery(gallery, embed)
    vector = embed([probe])
    if vector.shape[1] != entries.shape[1]:
        raise UsageError(
            f"gallery: expected embeddings of {vector.shape[1]} numbers, as the checkpoint's are,"
            f" got {entries.shape[1]} in {gallery}"
        )
    find = exact if options["index"] == "exact" else with_faiss
    scores, indices = find(entries, vector, min(options["top"], len(files)))
    if threshold is not None:
        print_lines(f"threshold:  {threshold}")
    for score, index in zip(scores[0], indices[0], strict=True):
        accepted = "" if threshold is None else "same " if score >= threshold.value else "     "
        print_lines(f"{score:.4f}  {accepted}{files[index]}")
    if broken:
        print_lines(f"{counted(len(broken), 'image')} could not be read:", *broken)
    return 1 if broken else 0


def exact(
    entries: NDArray[Any], probes: NDArray[Any], top: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Searches by comparing each probe with each entry.

    Args:
        entries: (N, E) of length 1.
        probes: (Q, E) of length 1.
        top: How many to return, at most N.

    Returns:
        Similarities and indices in the gallery, (Q, top) each, most similar first.
    """
    import numpy as np

    scores = probes @ entries.T  # (Q, N)
    indices = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return np.take_along_axis(scores, indices, axis=1), indices


def with_faiss(
    entries: NDArray[Any], probes: NDArray[Any], top: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Searches like `exact`, by faiss, for large galleries.

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
    """File names and embeddings of a folder of images or of a file of `densekit predict`.

    The third value is one message per image that cannot be read.
    """
    from densekit.app.prediction.sources import find_images

    if path.is_file() and path.suffix in (".npz", ".parquet"):
        return *read_embeddings(path), []
    files, vectors, broken = embed.readable(find_images(str(path))[0])
    return [str(file) for file in files], vectors, broken
