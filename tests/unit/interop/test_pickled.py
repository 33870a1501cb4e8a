"""Pickle files of arrays: both Pythons' forms, and programs instead of data."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from densekit.interop.pickled import read_pickle

PYTHON_2 = (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    b"(I1\n(I2\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
    b"S'\\x00\\x00\\x80?\\x00\\x00\\x00\\xc0'\ntb."
)
"""The array [1, -2], as protocol 0 of Python 2 writes it, whose bytes are a string."""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_become_tensors(tmp_path: Path, protocol: int) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">i4"),
        "half": np.ones((2, 0), np.float16),
    }
    content = {"model": OrderedDict(arrays), "epoch": np.int64(3), "author": "x", "flags": [True]}
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol))

    found = read_pickle(path)

    assert found["epoch"] == 3
    assert (found["author"], found["flags"]) == ("x", [True])
    for name, array in arrays.items():
        expected = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        assert torch.equal(found["model"][name], expected)
        assert found["model"][name].dtype == expected.dtype


def test_arrays_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(PYTHON_2)
    assert read_pickle(tmp_path / "a.pkl").tolist() == [1, -2]


class _Call:
    """Calls a function when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (_Call(os.mkdir, "made"), "posix.mkdir"),
        (_Call(eval, "1 + 1"), r"\w+.eval"),
        (_Call(np.load, "a.npy"), "numpy.load"),
        (_Call(np.ones, 3), "numpy"),
        (_Call(torch.zeros_like, 1.0), r"\w+.getattr"),
        (_Call(getattr, "a", "upper"), r"\w+.getattr"),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_program_is_refused_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostile: _Call, named: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": hostile}}, protocol))

    with pytest.raises(ValueError, match=rf"a\.pkl: expected arrays .* got {named}.* run code"):
        read_pickle(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pkl"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps({"a": np.ones(9)})[:-20],
        b"cnumpy\nndarray\n(I1000000000000\ntR.",  # would claim memory
        b"cnumpy.core.multiarray\n_reconstruct\n(tR.",  # an array without its values
        b"\x80\x02\x8c\x04name\x8c\x02osQ.",  # a persistent id
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pkl: expected"):
        read_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    "array", [np.array([{}, None], object), np.array(["a"]), np.zeros(2, "V4"), np.ones(2, "c8")]
)
def test_an_array_without_numbers_is_refused(tmp_path: Path, array: Any) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(array))
    with pytest.raises(ValueError, match=r"a\.pkl: expected"):
        read_pickle(tmp_path / "a.pkl")
