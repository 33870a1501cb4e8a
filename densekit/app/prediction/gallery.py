"""Galleries: the embeddings that an image is compared with, and the search in them.

N is the number of gallery entries, Q of probes, E the size of an embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit.app.errors import UsageError
from densekit.app.results.embeddings import read_embeddings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from densekit.app.prediction.embedder import Embedder


def read_gallery(path: Path, embed: Embedder) -> tuple[list[str], NDArray[Any], list[str]]:
    """File names and embeddings (N, E) of a folder of images or of a file of `densekit predict`.

    The third value is one message per image that cannot be read.

    Raises:
        UsageError: There are no images, or none of them can be read, or the file is another one.
    """
    from densekit.app.prediction.sources import find_images

    if holds_embeddings(path):
        return *read_embeddings(path), []
    files, vectors, broken = embed.readable(find_images(str(path))[0])
    return [str(file) for file in files], vectors, broken


def holds_embeddings(path: Path) -> bool:
    """Whether a gallery is a file of embeddings, not of images."""
    return path.is_file() and path.suffix in (".npz", ".parquet")


def check_length(gallery: Path, entries: NDArray[Any], length: int) -> None:
    """Refuses a gallery (N, E) whose embeddings are not as long as the checkpoint's.

    Raises:
        UsageError: They are not.
    """
    if entries.shape[1] != length:
        raise UsageError(
            f"gallery: expected embeddings of {length} numbers, as the checkpoint's are,"
            f" got {entries.shape[1]} in {gallery}"
        )


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
