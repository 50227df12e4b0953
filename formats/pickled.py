"""Reading .npy files that contain pickled objects, the form of some published feature sets.

array = read_pickled(path, allowed=True)        # bytes of Python 2 stay bytes
tree = read_pickled_tree(path)                  # {name: array or another such tree}, of a plain pickle of that

Unpickling runs whatever functions a file names. So the user must allow it, with --allow_pickle; and even then the file gets
none of numpy's constructors, which can be made to read memory outside the array. Stand-ins collect the parts of an array, which
is built once they have been checked. A file that names anything else is refused.

A few bytes can stand for a list of lists of lists of ... the same list, which no memory would hold. So a file may build no more
than its size allows.
"""

import contextlib
import math
import pathlib
import pickle
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from formats.array_files import NpyArray, read_npy_header
from formats.regular_files import check_regular
from utils.errors import InputError

_TYPE_KINDS = "biufcSUO"  # types that are built: numbers, strings, objects

# What is built may take this many items for each byte of the file, and some: honest files take less than one, but may hold the
# same list twice.
ITEMS_PER_BYTE, SPARE_ITEMS = 2, 10_000
LONGEST_CODE = 16  # characters of the name of a type, such as "f4" or "U120"
MOST_AXES = 32
LARGEST_NUMBER = 4_096  # bits of an integer, which can still be written down


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
    """Stand-in for numpy.ndarray: its parts, from which _Builder builds it."""

    parts: tuple[Any, Any, Any, str] | None = None  # shape, type, bytes or a list, order; None until its state is known

    def __setstate__(self, state: Any) -> None:
        """(version, shape, type, whether in Fortran order, bytes or a list)"""
        _, shape, kind, fortran, data = state
        self.parts = shape, kind, data, "F" if fortran else "C"


class _Scalar(_Array):
    """Stand-in for a number of numpy's: the only one of an array."""


class _Builder:
    """Builds what a file holds, and counts it: the same list in two places is two lists."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def count(self, items: int) -> None:
        """Raises UnpicklingError when the file has built more than its size allows."""
        self.left -= items
        if self.left < 0:
            raise pickle.UnpicklingError("stands for far more than it holds")

    def value(self, value: Any) -> Any:
        """The value with arrays instead of their stand-ins, also in nested lists."""
        self.count(1)
        if isinstance(value, _Scalar):
            return self.array(value)[0]
        if isinstance(value, _Array):
            return self.array(value)
        if isinstance(value, list | tuple):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if value is not None and not isinstance(value, bool | int | float | complex | str | bytes | bytearray):
            raise pickle.UnpicklingError(f"holds a {type(value).__name__}")
        if isinstance(value, int) and value.bit_length() > LARGEST_NUMBER:
            raise pickle.UnpicklingError("holds an absurd number")
        return value

    def array(self, stored: _Array) -> NDArray[Any]:
        """Build an array from its parts. Raises UnpicklingError when they do not fit together."""
        if stored.parts is None:
            raise pickle.UnpicklingError("holds an array that contains itself")
        shape, kind, data, order = stored.parts
        if not isinstance(kind, _Type) or not isinstance(shape, list | tuple) or len(shape) > MOST_AXES:
            raise pickle.UnpicklingError("holds a malformed array")
        if not all(isinstance(n, int) and 0 <= n < 2**63 for n in shape):
            raise pickle.UnpicklingError("holds a malformed array")
        dtype, count = kind.dtype, math.prod(shape)
        self.count(count)
        if dtype.kind == "O":
            if not isinstance(data, list) or len(data) != count:
                raise pickle.UnpicklingError("holds a malformed array")
            objects = np.empty(count, object)
            stored.parts = None  # until it is built: an array in itself has no end
            for i, value in enumerate(data):
                objects[i] = self.value(value)
            stored.parts = shape, kind, data, order
            return objects.reshape(shape, order=order)  # type: ignore[call-overload]
        if not isinstance(data, bytes | bytearray) or len(data) != count * dtype.itemsize:
            raise pickle.UnpicklingError("holds a malformed array")
        if count * dtype.itemsize == 0:
            return np.empty(shape, dtype)
        values: NDArray[Any] = np.frombuffer(data, dtype)
        return _with_valid_text(values.reshape(shape, order=order))  # type: ignore[call-overload]


def _with_valid_text(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array. Raises UnpicklingError for invalid characters, on which Python would fail later, in odd ways."""
    if array.dtype.kind == "U" and array.size:
        codes = np.frombuffer(array.tobytes(), np.dtype(np.uint32).newbyteorder(array.dtype.byteorder))
        if codes.max() > sys.maxunicode:
            raise pickle.UnpicklingError("holds invalid text")
    return array


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.parts = shape, kind, data, _text(order)
    return array


def _scalar(kind: Any, data: Any) -> _Scalar:
    number = _Scalar()
    number.parts = (1,), kind, data, "C"
    return number


def _text(value: Any) -> str:
    """A short word, of a type or an order."""
    if not isinstance(value, bytes | str) or len(value) > LONGEST_CODE:
        raise pickle.UnpicklingError("holds a malformed array")
    return value.decode("ascii") if isinstance(value, bytes) else value


def _no_call(*_: Any) -> None:
    """Stand-in for numpy.ndarray as a function, which every array names and none calls."""
    raise pickle.UnpicklingError("asks for numpy.ndarray")


def _no_bytes() -> bytes:
    """Stand-in for the call with which protocol 2 of Python 3 writes b""."""
    return b""


_STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _no_call,
    ("numpy", "dtype"): _Type,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _STAND_INS[f"{_core}.multiarray", "scalar"] = _scalar
    _STAND_INS[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _ArrayUnpickler(pickle._Unpickler):  # the Python version: the one in C can be made to take all memory
    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    def __init__(self, file: Any, size: int) -> None:
        super().__init__(file, encoding="bytes")
        self.encoded = size  # bytes that _encode may still make

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return self._encode
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"asks for {module[:80]}.{name[:80]}")
        return _STAND_INS[module, name]

    def _encode(self, text: Any, coding: Any) -> bytes:
        """Stand-in for the call with which protocols 0 to 2 of Python 3 write bytes."""
        if not isinstance(text, str) or _text(coding) != "latin1":
            raise pickle.UnpicklingError("asks for _codecs.encode")
        self.encoded -= len(text)
        if self.encoded < 0:
            raise pickle.UnpicklingError("stands for far more than it holds")
        return text.encode("latin1")

    def _set_items(self) -> None:
        self._update(self.pop_mark())

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _update(self, items: list[Any]) -> None:
        """Add to a dictionary, of which no array has one: only names, since looking up a nested key can take for ever."""
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, str | bytes) for key in items[::2]):
            raise pickle.UnpicklingError("holds a malformed dictionary")
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _bytearray(self) -> None:
        """What protocol 5 writes for an array: read before memory for it is allocated."""
        length = int.from_bytes(self.read(8), "little")
        data = self.read(length)
        if len(data) < length:
            raise pickle.UnpicklingError("cut short")
        self.stack.append(bytearray(data))

    def _refuse(self) -> None:
        raise pickle.UnpicklingError("holds a set")


_ArrayUnpickler.dispatch |= {
    pickle.SETITEM[0]: _ArrayUnpickler._set_item,
    pickle.SETITEMS[0]: _ArrayUnpickler._set_items,
    pickle.BYTEARRAY8[0]: _ArrayUnpickler._bytearray,
}
for _opcode in (pickle.DICT, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET):
    _ArrayUnpickler.dispatch[_opcode[0]] = _ArrayUnpickler._refuse


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
    with (
        _reading(path, content="an array of arrays and strings", file="a complete .npy file"),
        open(path, "rb") as file,
    ):
        shape, dtype = read_npy_header(file)
        if not dtype.hasobject:
            return _with_valid_text(np.array(NpyArray(path).rows(slice(None))) if shape else np.load(path))
        if not allowed:
            raise InputError(
                f"{path}: holds pickled objects, and reading these can run code that came with the file; if you trust "
                "its source, give --allow_pickle (python -m data_tools.convert then writes it as plain arrays, once)"
            )
        size = path.stat().st_size
        content = _ArrayUnpickler(_BoundedFile(file, size), size).load()
        if not isinstance(content, _Array):
            raise pickle.UnpicklingError(f"holds a {type(content).__name__}")
        return _Builder(ITEMS_PER_BYTE * size + SPARE_ITEMS).array(content).reshape(shape)


def read_pickled_tree(path: pathlib.Path) -> dict[str, Any]:
    """Read a plain pickle of nested dictionaries of arrays, which runs nothing of what the file names.

    Raises InputError when it is missing, broken, or holds anything but dictionaries with names, arrays and plain values.
    """
    with _reading(path, content="dictionaries of arrays", file="a complete pickle"), open(path, "rb") as file:
        size = path.stat().st_size
        content = _ArrayUnpickler(_BoundedFile(file, size), size).load()
        tree = _Builder(ITEMS_PER_BYTE * size + SPARE_ITEMS).value(content)
        if not isinstance(tree, dict):
            raise pickle.UnpicklingError(f"holds a {type(tree).__name__}")
        return tree


@contextlib.contextmanager
def _reading(path: pathlib.Path, *, content: str, file: str) -> Iterator[None]:
    """Turn whatever a damaged or hostile file raises into an InputError that says what it is not."""
    try:
        check_regular(path)
        yield
    except (InputError, MemoryError):
        raise
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: not {content} ({error}); it was not loaded") from None
    except Exception as error:  # readers can fail in any way on a damaged file
        raise InputError(f"{path}: not {file} ({type(error).__name__}); get another copy") from None
