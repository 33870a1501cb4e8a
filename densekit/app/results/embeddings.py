"""Reads and writes the embeddings of many images, as one NumPy or Parquet file.

N images, E the size of an embedding.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from densekit._files import replacing
from densekit._names import readable
from densekit.app.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("npz", "parquet")


class EmbeddingWriter:
    """Collects embeddings by head; `close` writes them.

    Args:
        output: Folder.
        kind: "npz" (arrays `path` (N,) and `embedding` (N, E)), or "parquet" (the same as columns;
            needs pyarrow).

    Raises:
        ImportError: pyarrow is missing; raised when writing.
    """

    def __init__(self, output: Path, kind: str = "npz") -> None:
        self.output, self.kind = output, kind
        self.found: dict[str, list[tuple[str, NDArray[Any]]]] = {}

    def add(self, head: str, file: Path, embedding: NDArray[Any]) -> None:
        """Adds the embedding of one image.

        Args:
            head: Name of the head.
            file: Of the image.
            embedding: (E,).
        """
        self.found.setdefault(head, []).append((readable(file), embedding))

    def close(self) -> None:
        """Writes `embeddings.npz`, or one file per head if several return embeddings."""
        import numpy as np

        for head, rows in self.found.items():
            name = f"embeddings_{head}" if len(self.found) > 1 else "embeddings"
            files, vectors = zip(*rows, strict=True)
            stacked = np.stack(vectors)
            with replacing(self.output / f"{name}.{self.kind}") as part:
                if self.kind == "npz":
                    np.savez(part, path=np.asarray(files), embedding=stacked)
                else:
                    arrow = _pyarrow()
                    columns = {"path": list(files), "embedding": list(stacked)}
                    arrow.parquet.write_table(arrow.table(columns), part)


def check_installed(kind: str) -> None:
    """Refuses a format whose library is missing, before the first image."""
    if kind == "parquet":
        _pyarrow()


def read_embeddings(path: Path) -> tuple[list[str], NDArray[Any]]:
    """Reads file names and embeddings (N, E) written by `EmbeddingWriter`.

    Raises:
        UsageError: The file holds something else.
    """
    import numpy as np

    try:
        if path.suffix == ".parquet":
            table = _pyarrow().parquet.read_table(path)
            columns = table.column("path").to_pylist(), table.column("embedding").to_pylist()
            return columns[0], np.asarray(columns[1], dtype=np.float32)
        with np.load(path, allow_pickle=False) as arrays:
            return [str(name) for name in arrays["path"]], arrays["embedding"]
    except (KeyError, ValueError, OSError) as error:
        raise UsageError(
            f"{path}: expected embeddings written by densekit predict, got another file: {error}"
        ) from error


def _pyarrow() -> Any:
    from densekit._extras import need

    need("pyarrow.parquet", "embeddings=parquet", "faces")
    return need("pyarrow", "embeddings=parquet", "faces")
