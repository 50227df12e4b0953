"""Reading .npy files that contain pickled objects, the form of some published feature sets.

array = read_pickled(path, allowed=True)        # bytes of Python 2 stay bytes

Unpickling runs whatever functions a file names. So the user must allow it, with --allow_pickle; and even then the file gets
none of numpy's constructors, which can be made to read memory outside the array. Stand-ins collect the parts of an array, which
is built once they have been checked. A file that names anything else is refused.
"""

import math
import pathlib
import pickle
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from formats.array_files import read_npy_header
from utils.errors import InputError

_TYPE_KINDS = "biufcSUO"  # types that are built: numbers, strings, objects


class _Type:
    """Stand-in for numpy.dtype."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.dtype = np.dtype(_text(code))
        if self.dtype.kind not in _TYPE_KINDS or self.dtype.shape:
            raise pickle.UnpicklingError(f"holds an array of {self.dtype}")

    def __setstate__(self, state: Any) -> None:
        """(version, byte order, subarray, names, fields, size, alignment, flags); the code already has the size."""
        order = _text(state[1])
        if any(part is not None for part in state[2:5]) or order not in "<>=|":
            raise pickle.UnpicklingError("holds an array of structures")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class _Array:
    """Stand-in for numpy.ndarray."""

    array: NDArray[Any] | None = None  # None until its state is known

    def __setstate__(self, state: Any) -> None:
        """(version, shape, type, whether in Fortran order, bytes or a list)"""
        _, shape, kind, fortran, data = state
        self.array = _build(shape, kind, data, "F" if fortran else "C")


def _build(shape: Any, kind: Any, data: Any, order: Any) -> NDArray[Any]:
    """Build an array from its parts. Raises UnpicklingError when they do not fit together."""
    shape = tuple(int(n) for n in shape)
    if not isinstance(kind, _Type) or min(shape, default=0) < 0:
        raise pickle.UnpicklingError("holds a malformed array")
    dtype, count = kind.dtype, math.prod(shape)
    if dtype.kind == "O":
        if not isinstance(data, list) or len(data) != count:
            raise pickle.UnpicklingError("holds a malformed array")
        objects = np.empty(count, object)
        for i, value in enumerate(data):
            objects[i] = _built(value)
        return objects.reshape(shape, order=order)
    if not isinstance(data, bytes | bytearray) or len(data) != count * dtype.itemsize:
        raise pickle.UnpicklingError("holds a malformed array")
    if count * dtype.itemsize == 0:
        return np.empty(shape, dtype)
    return _with_valid_text(np.frombuffer(data, dtype).reshape(shape, order=order))


def _with_valid_text(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array. Raises UnpicklingError for invalid characters, on which Python would fail later, in odd ways."""
    if array.dtype.kind == "U" and array.size:
        codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise pickle.UnpicklingError("holds invalid text")
    return array


def _built(value: Any) -> Any:
    """The value with arrays instead of their stand-ins, also in nested lists."""
    if isinstance(value, _Array):
        if value.array is None:
            raise pickle.UnpicklingError("holds an array that contains itself")
        return value.array
    if isinstance(value, list | tuple):
        return [_built(item) for item in value]
    return value


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.array = _build(shape, kind, data, _text(order))
    return array


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("holds a malformed number")
    return _build((1,), kind, data, "C")[0]


def _text(value: Any) -> str:
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _no_call(*_: Any) -> None:
    """Stand-in for numpy.ndarray as a function, which every array names and none calls."""
    raise pickle.UnpicklingError("asks for numpy.ndarray")


def _encode(text: Any, coding: Any) -> bytes:
    """Stand-in for the call with which protocols 0 to 2 of Python 3 write bytes."""
    if not isinstance(text, str) or _text(coding) != "latin1":
        raise pickle.UnpicklingError("asks for _codecs.encode")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand-in for the call with which protocol 2 of Python 3 writes b""."""
    return b""


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _no_call,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _ArrayUnpickler(pickle._Unpickler):  # the Python version: the one in C can be made to take all memory
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"asks for {module}.{name}")
        return _STAND_INS[module, name]


class _BoundedFile:
    """A file that refuses to read more than it has, before memory for that much is allocated."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        if count > self.size:
            raise pickle.UnpicklingError("cut short")
        return self.file.read(count)

    def readinto(self, buffer: Any) -> int:
        return self.file.readinto(buffer)  # type: ignore[attr-defined]


def read_pickled(path: pathlib.Path, *, allowed: bool) -> NDArray[Any]:
    """Read the array in a .npy file, pickled or not; bytes of Python 2 stay bytes.

    Raises InputError when it is pickled and that is not allowed, or broken, or not an array.
    """
    try:
        with open(path, "rb") as file:
            shape, dtype = read_npy_header(file)
            if not dtype.hasobject:
                return _with_valid_text(np.load(path, allow_pickle=False))
            if not allowed:
                raise InputError(
                    f"{path}: holds pickled objects, and reading these can run code that came with the file; if you trust "
                    "its source, give --allow_pickle (python -m data_tools.convert then writes it as plain arrays, once)"
                )
            content = _ArrayUnpickler(_BoundedFile(file, path.stat().st_size), encoding="bytes").load()
            if not isinstance(content, _Array):
                raise pickle.UnpicklingError(f"holds a {type(content).__name__}")
            array: NDArray[Any] = _built(content)
            return array.reshape(shape)
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not an array of arrays and strings ({error}); it was not loaded") from None
    except Exception as error:  # readers can fail in any way on a damaged file
        raise InputError(f"{path}: not a complete .npy file ({type(error).__name__}); get another copy") from None
