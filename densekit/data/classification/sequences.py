"""Sequences of letters, such as DNA, as series with one channel per letter.

N sequences, L the length of one, A letters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from densekit._names import unknown
from densekit.data.classification.dataset import SeriesCategories, categories_of
from densekit.data.reading.tables import read_table

_KEY = "SequenceTable"

NUCLEOTIDES = {
    **{"R": "AG", "Y": "CT", "S": "CG", "W": "AT", "K": "GT", "M": "AC"},
    **{"B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT"},
}
"""IUPAC codes of ambiguous nucleotides."""


class SequenceTable(SeriesCategories):
    """Sequences and their classes from a table.

    A letter becomes a row with 1 in its channel; a code for several letters divides the 1 equally
    among them. Rows beyond the end of a short sequence are zero.

    Args:
        table: A CSV or TSV file.
        header: Names of its columns if the file has no header.
        label: The column of the classes.
        sequence: The column of the sequences.
        names: Class names in the order of their labels; sorted by default.
        alphabet: The letters in the order of their channels; case is ignored.
        codes: Codes of several letters, each with the letters it may stand for; those of
            nucleotides by default.

    Raises:
        ValueError: Naming the line, for a missing file or column, an unknown class or letter, or an
            empty sequence.
    """

    def __init__(
        self,
        table: str | Path,
        *,
        header: Sequence[str] | None = None,
        label: str = "label",
        sequence: str = "sequence",
        names: Sequence[str] | None = None,
        alphabet: str = "ACGT",
        codes: Mapping[str, str] | None = None,
    ) -> None:
        rows = read_table(Path(table), f"{_KEY}.table", [label, sequence], header)
        shares = letter_shares(alphabet, NUCLEOTIDES if codes is None else codes)
        names, categories = categories_of([(w, row[label]) for w, row in rows], names, _KEY)
        encoded = [encode(row[sequence], shares, where) for where, row in rows]
        super().__init__(encoded, names, categories, str(table))
        self._letters = {code: row.tolist() for code, row in shares.items()}

    def describe(self) -> dict[str, Any]:
        """The classes, the channels, and `letters`: the row of each letter."""
        return super().describe() | {"letters": self._letters}


def letter_shares(alphabet: str, codes: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """(A,) float32 row of each letter and of each code all of whose letters are in the alphabet.

    Raises:
        ValueError: If a letter is in the alphabet twice, or there is none.
    """
    letters = list(alphabet.upper())
    if not letters or len(set(letters)) < len(letters):
        raise ValueError(f"{_KEY}.alphabet: expected each letter once, got {alphabet!r}")
    meanings = {code.upper(): set(meant.upper()) for code, meant in codes.items()}
    meanings = {code: meant for code, meant in meanings.items() if meant <= set(letters)}
    meanings |= {letter: {letter} for letter in letters}
    return {
        code: np.asarray([(letter in meant) / len(meant) for letter in letters], dtype=np.float32)
        for code, meant in meanings.items()
    }


def encode(sequence: str, shares: Mapping[str, NDArray[Any]], where: str) -> NDArray[Any]:
    """(L, A) float32 encoding of a sequence; every row sums to 1.

    Args:
        sequence: Its letters.
        shares: See `letter_shares`.
        where: File and line, for messages.

    Raises:
        ValueError: For an unknown letter or an empty sequence.
    """
    letters = sequence.upper()
    for number, letter in enumerate(letters, start=1):
        if letter not in shares:
            raise ValueError(unknown(f"{where}: letter {number}", letter, shares))
    if not letters:
        raise ValueError(f"{where}: expected a sequence, got an empty one")
    return np.stack([shares[letter] for letter in letters])


def read_sequences(path: Path) -> list[tuple[str, str]]:
    """Reads the sequences of a FASTA file, or of a text file with one per line.

    Returns:
        File and line of each sequence, for messages, and its letters.

    Raises:
        ValueError: Naming the file, if it has no sequence.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found: list[tuple[str, str]] = []
    fasta = any(line.startswith(">") for line in lines)
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith(">"):
            found.append((f"{path}, line {number}", ""))
        elif line and fasta and found:
            found[-1] = (found[-1][0], found[-1][1] + line)
        elif line:
            found.append((f"{path}, line {number}", line))
    if not found:
        raise ValueError(f"{path}: expected sequences, got none")
    return found
