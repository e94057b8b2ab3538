"""Reads pickles of numpy arrays and plain containers, and refuses all others.

A pickle is a program: loading it calls the functions that it names. Here it may only name the functions that numpy
arrays are made with, by their names in numpy 1 and 2; a pickle that names another function is refused before that
function is called.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.extraction.importers.base import plain_file


def _scalar(dtype: Any, data: Any = None) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes):
        raise pickle.UnpicklingError("a numpy scalar of another kind than number or text")
    return np.frombuffer(data, dtype, count=1)[0]


def _array(cls: Any, shape: Any, code: Any) -> Any:
    if cls is not _NDARRAY or shape not in ((0,), [0]):  # numpy always starts from an empty one
        raise pickle.UnpicklingError("an array of another class than numpy.ndarray")
    return np.ndarray((0,), np.int8)


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> Any:
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("a numpy array of another kind than numbers or text")
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "bytes"):
        raise pickle.UnpicklingError("an encoding other than Latin-1")
    return text.encode("latin1")


def _collection(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(content: Any = ()) -> Any:
        if not isinstance(content, list | tuple | bytes):
            raise pickle.UnpicklingError("a collection made of something that is none")
        return kind(content)

    return make


def _dtype(*arguments: Any) -> Any:
    if not arguments or not isinstance(arguments[0], str) or arguments[0][:1] not in "biufcSUVOM?m<>=|":
        raise pickle.UnpicklingError("a numpy dtype that is not named by a code")
    return np.dtype(*arguments)


class _Maker:
    """Wraps an allowed function: it can be called, and a pickle cannot change its attributes."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)


_NDARRAY = "numpy.ndarray"  # only passed to _array
_BUILTINS = ("builtins", "__builtin__")  # of Python 3 and 2
_COLLECTIONS = {"set": set, "frozenset": frozenset, "bytes": bytes, "bytearray": bytearray}
_CORES = ("numpy.core", "numpy._core")
_ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _encode,
    **{(home, name): _collection(kind) for home in _BUILTINS for name, kind in _COLLECTIONS.items()},
    **{(f"{core}.multiarray", "_reconstruct"): _array for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): _scalar for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "ndarray"):
            return _NDARRAY
        try:
            return _Maker(_ALLOWED[module, name])
        except KeyError:
            raise pickle.UnpicklingError(
                f'it names "{module}.{name}", and may name numpy arrays and plain containers only'
            ) from None


class _Bounded:
    """A file that reads no more than it holds: the memory is asked for before the end of the file is found."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._size = file, size
        self.readline, self.tell = file.readline, file.tell

    def read(self, count: int) -> bytes:
        if count > self._size - self._file.tell():
            raise pickle.UnpicklingError(
                f"it declares {count} bytes where it holds {self._size - self._file.tell()}"
            )
        data: bytes = self._file.read(count)
        return data


def _check_sizes(file: Any, size: int) -> None:
    """Refuse a pickle that asks for more than it holds, in bytes or in places of its memo.

    Raises:
        pickle.UnpicklingError: it does.
        ValueError: it is no whole pickle.
    """
    bounded: Any = _Bounded(file, size)
    argument: Any
    for count, (code, argument, _) in enumerate(pickletools.genops(bounded)):
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > count:
            raise pickle.UnpicklingError(f"it keeps object {argument} where it has no more than {count}")
        if code.name == "FRAME" and int(argument) > size:
            raise pickle.UnpicklingError(f"it declares {argument} bytes where it holds {size}")


def load(path: Path) -> Any:
    """Return what a pickle holds.

    Raises:
        StoreError: it is absent, too large, damaged, or names anything but numpy's arrays.
    """
    with plain_file(path).open("rb") as file:
        try:
            _check_sizes(file, path.stat().st_size)
            file.seek(0)
            return _Unpickler(file, encoding="latin1").load()
        except pickle.UnpicklingError as error:
            raise StoreError(f"{path}: this pickle is refused: {error}") from error
        except (
            ArithmeticError,
            AttributeError,
            EOFError,
            ImportError,
            LookupError,
            MemoryError,
            OSError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise StoreError(f"{path}: not a whole pickle ({type(error).__name__}: {error})") from error
