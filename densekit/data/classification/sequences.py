"""Sequences of letters, such as DNA, as series of one channel a letter.

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
"""Codes of the IUPAC for a nucleotide that is one of several."""


class SequenceTable(SeriesCategories):
    """Sequences and their classes by a table.

    A letter becomes a row with 1 in its channel; a code for several letters shares the 1 among
    them. Rows beyond the end of a short sequence are zero.

    Args:
        table: A CSV or TSV file.
        header: Names of its columns where the file has no line of them.
        label: The column of the classes.
        sequence: The column of the sequences.
        names: Class names in the order of their labels; by default as they sort.
        alphabet: The letters, in the order of their channels; small ones in the file are the same.
        codes: Further letters, each with those that it may stand for; those of nucleotides by
            default.

    Raises:
        ValueError: For a missing file or column, an unknown class or letter, an empty sequence;
            always with the line.
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
        """The classes, the channels, and `letters`: what each letter becomes."""
        return super().describe() | {"letters": self._letters}


def letter_shares(alphabet: str, codes: Mapping[str, str]) -> dict[str, NDArray[Any]]:
    """(A,) float32 of each letter and of each code all of whose letters are in the alphabet.

    Raises:
        ValueError: A letter is in the alphabet twice, or there is none.
    """
    letters = list(alphabet.upper())
    if not letters or len(set(letters)) < len(letters):
        raise ValueError(f"{_KEY}.alphabet: each letter once, found {alphabet!r}")
    meanings = {code.upper(): set(meant.upper()) for code, meant in codes.items()}
    meanings = {code: meant for code, meant in meanings.items() if meant <= set(letters)}
    meanings |= {letter: {letter} for letter in letters}
    return {
        code: np.asarray([(letter in meant) / len(meant) for letter in letters], dtype=np.float32)
        for code, meant in meanings.items()
    }


def encode(sequence: str, shares: Mapping[str, NDArray[Any]], where: str) -> NDArray[Any]:
    """(L, A) float32 of a sequence; every row sums to 1.

    Args:
        sequence: Its letters.
        shares: See `letter_shares`.
        where: What the message of an error begins with.

    Raises:
        ValueError: For an unknown letter, or none.
    """
    letters = sequence.upper()
    for place, letter in enumerate(letters):
        if letter not in shares:
            raise ValueError(unknown(f"{where}: letter {place + 1}", letter, shares))
    if not letters:
        raise ValueError(f"{where}: an empty sequence")
    return np.stack([shares[letter] for letter in letters])


def read_sequences(path: Path) -> list[tuple[str, str]]:
    """The sequences of a FASTA file, or of a text file with one a line.

    Returns:
        Where each stands, for messages, and its letters.

    Raises:
        ValueError: Naming the file, if there is none in it.
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
        raise ValueError(f"{path}: no sequence in it")
    return found
