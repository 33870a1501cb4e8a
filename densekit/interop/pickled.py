"""Arrays of pickle files, such as those of detectron2's model zoo, read without running code.

A pickle is a program: it may name any function of any module and call it. Here the few names that
a NumPy array needs stand for classes of this file, which keep their arguments and nothing else;
every other name is refused before it is imported.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

KINDS = "fiub"
"""Kinds of numbers that are read: floats, signed and unsigned integers, booleans."""


def read_pickle(path: str | Path) -> Any:
    """Reads a pickle file of plain containers, numbers, text and NumPy arrays.

    Args:
        path: File, of Python 2 or 3.

    Returns:
        The containers, with a tensor in place of each array.

    Raises:
        ValueError: It names something else, is damaged, or holds an array without numbers.
    """
    with Path(path).open("rb") as file:
        try:
            content = _ArrayUnpickler(file, encoding="latin1").load()
            return _with_tensors(content)
        except _RefusedError as error:
            raise ValueError(f"{path}: {error}") from None
        except Exception as error:  # arbitrary bytes, run as a pickle program, can raise any error
            raise ValueError(
                f"{path}: expected a pickle of arrays, got a damaged one ({error})"
            ) from error


class _RefusedError(ValueError):
    """What the file names may not be built."""


class _DType:
    """The type of an array's numbers, as its code and byte order."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"|": "="}.get(str(state[1]), str(state[1]))

    def numpy(self) -> np.dtype[Any]:
        """The equal type of NumPy; only numbers are accepted."""
        found = np.dtype(self.code)
        if found.kind not in KINDS:
            raise _RefusedError(f"expected arrays of numbers, got one of {self.code!r}")
        return found.newbyteorder(self.order)  # type: ignore[arg-type]  # checked by NumPy


class _Array:
    """An array's shape, type and bytes."""

    shape: tuple[int, ...]
    dtype: _DType
    is_fortran: bool
    data: bytes | str

    def __init__(self, *_: object) -> None: ...

    @classmethod
    def of_buffer(cls, data: bytes, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
        """The array as protocol 5 writes it."""
        made = cls()
        made.__setstate__((1, shape, dtype, order == "F", data))
        return made

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.dtype, self.is_fortran, self.data = state

    def tensor(self) -> Tensor:
        """The values, in the byte order of this machine."""
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        flat = np.frombuffer(data, self.dtype.numpy())
        array = flat.reshape(self.shape, order="F" if self.is_fortran else "C")
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


class _Scalar:
    """One number with NumPy's type."""

    def __init__(self, dtype: _DType, data: bytes | str) -> None:
        self.dtype, self.data = dtype, data

    def __setstate__(self, state: object) -> None:
        raise _RefusedError("expected numbers without a state, got one with a state")

    def number(self) -> float:
        """The value as Python's number."""
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        return np.frombuffer(data, self.dtype.numpy())[0].item()  # type: ignore[no-any-return]


def _no_bytes() -> bytes:
    """The empty bytes of the old protocols."""
    return b""


def _latin1(text: str, encoding: str) -> bytes:
    """Bytes as Python 3 writes them in the old protocols."""
    if encoding != "latin1":
        raise _RefusedError(f"expected bytes as latin1, got {encoding!r}")
    return text.encode("latin1")


_NAMES: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _latin1,
    "__builtin__.bytes": _no_bytes,
    "numpy.ndarray": None,  # an argument of _reconstruct, never called
    "numpy.dtype": _DType,
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy.core.multiarray.scalar": _Scalar,
    "numpy.core.numeric._frombuffer": _Array.of_buffer,
}
"""Names by which a file may call something; NumPy 2 writes `numpy._core`."""


class _ArrayUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], encoding: str) -> None:
        super().__init__(file, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        called = f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1)
        if called not in _NAMES:
            raise _RefusedError(
                f"expected arrays and plain values, got {module}.{name}, which could run code"
            )
        return _NAMES[called]

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("expected arrays and plain values, got a reference to another file")


def _with_tensors(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.tensor()
    if isinstance(value, _Scalar):
        return value.number()
    if isinstance(value, Mapping):
        return {key: _with_tensors(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return type(value)(_with_tensors(one) for one in value)
    return value
