"""Arrays as the field stores them, one per video or stream, behind one interface; nothing is ever unpickled.

    NpyArray(path)              VIDEO.npy, memory-mapped
    NpzArray(path, key="rgb")   one member of VIDEO.npz
    TorchArray(path, key=None)  VIDEO.pt: a tensor, or one of a dict of tensors; loaded with weights_only
    MemoryArray(...)            already read
    UnusableArray(problem)      not an array; an error when a video needs it

    array.header()              # shape and type, without the values where the format allows it
    array.rows(indices)         # [len(indices),D]; slice(None) reads everything

A format that only one layout uses is in that layout's file (Hdf5Array in formats/hdf5.py). No file stays open: an open memory
map holds a file descriptor, of which a process has about a thousand.
"""

import contextlib
import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from formats.problems import DataError, Kind, Problem
from utils.errors import InputError
from utils.memory import is_out_of_memory
from utils.segments import Indices

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
STREAMS = ("rgb", "flow")  # in the order of a joint array's channels

Rows = Indices | slice
Header = tuple[tuple[int, ...], np.dtype[Any]]

_NUMPY_TYPES = {  # numpy has no bfloat16; float32 holds it exactly
    torch.float16: np.float16,
    torch.bfloat16: np.float32,
    torch.float32: np.float32,
    torch.float64: np.float64,
}
_TORCH_TYPES = {torch.bfloat16: torch.float32}


class StoredArray(Protocol):
    """One array. str() gives its name for messages."""

    def header(self) -> Header:
        """Shape and type. Raises DataError for a damaged file."""

    def rows(self, chosen: Rows) -> NDArray[Any]:
        """The rows at these positions, possibly of a mapped file. Raises DataError for a damaged file."""


@dataclass(frozen=True)
class NpyArray:
    path: pathlib.Path

    def __str__(self) -> str:
        return str(self.path)

    def header(self) -> Header:
        array = _map_npy(self.path)
        return array.shape, array.dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        return np.asarray(_map_npy(self.path)[chosen])


@dataclass(frozen=True)
class NpzArray:
    path: pathlib.Path
    key: str = field(kw_only=True)

    def __str__(self) -> str:
        return f"{self.path} '{self.key}'"

    def header(self) -> Header:
        """Read only the member's first bytes."""
        with (
            reading(self, "member of an .npz file"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.key}.npy") as member,
        ):
            shape, dtype = read_npy_header(member)
        if dtype.hasobject:
            raise DataError(_pickled(self))
        return shape, dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        with reading(self, "member of an .npz file"), np.load(self.path, allow_pickle=False) as archive:
            rows: NDArray[Any] = archive[self.key][chosen]
        return rows


@dataclass(frozen=True)
class TorchArray:
    path: pathlib.Path
    key: str | None = field(kw_only=True)  # None: the file is a single tensor

    def __str__(self) -> str:
        return str(self.path) if self.key is None else f"{self.path} '{self.key}'"

    def header(self) -> Header:
        tensor = self._tensor()
        return tuple(tensor.shape), np.dtype(_NUMPY_TYPES[tensor.dtype])

    def rows(self, chosen: Rows) -> NDArray[Any]:
        tensor = self._tensor()[chosen if isinstance(chosen, slice) else torch.from_numpy(chosen)]
        rows: NDArray[Any] = tensor.to(_TORCH_TYPES.get(tensor.dtype, tensor.dtype)).numpy()
        return rows

    def _tensor(self) -> torch.Tensor:
        content = _load_torch(self.path)
        with reading(self, "tensor of a .pt file"):  # the file may have been replaced since its arrays were listed
            tensor: torch.Tensor = (content if self.key is None else content[self.key]).detach()
        if tensor.dtype not in _NUMPY_TYPES or tensor.layout is not torch.strided or tensor.is_meta or tensor.is_nested:
            kind = " ".join(str(part).removeprefix("torch.") for part in (tensor.dtype, tensor.layout))
            raise DataError(wrong_type(self, kind.removesuffix(" strided")))
        return tensor


@dataclass(frozen=True)
class UnusableArray:
    """Something other than an array. It is an error only when its video is used."""

    problem: Problem

    def __str__(self) -> str:
        return self.problem.where

    def header(self) -> Header:
        raise DataError(self.problem)

    def rows(self, chosen: Rows) -> NDArray[Any]:
        raise DataError(self.problem)


@dataclass(frozen=True, kw_only=True)
class MemoryArray:
    where: str
    array: NDArray[Any]

    def __str__(self) -> str:
        return self.where

    def header(self) -> Header:
        return self.array.shape, self.array.dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        rows: NDArray[Any] = self.array[chosen]
        return rows


def arrays_in(path: pathlib.Path) -> dict[str, StoredArray]:
    """The arrays in a file of one of SUFFIXES: {"rgb", "flow"}, or {"joint"} when it is a single array.

    Raises DataError when the file holds anything else.
    """
    if path.suffix == ".npy":
        return {"joint": NpyArray(path)}
    if path.suffix == ".npz":
        with reading(path, ".npz file"), zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
        return arrays_by_stream(path, {key: NpzArray(path, key=key) for key in keys})
    content = _load_torch(path)
    if isinstance(content, torch.Tensor):
        return {"joint": TorchArray(path, key=None)}
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        what = f"holds a {type(content).__name__}, expected a tensor, or tensors 'rgb' and 'flow'"
        raise DataError(Problem(kind=Kind.CONTENT, where=str(path), what=what, fix="save only these"))
    return arrays_by_stream(path, {key: TorchArray(path, key=key) for key in content})


def read_npy_header(file: IO[bytes]) -> Header:
    """Read a .npy file up to its values."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def wrong_type(array: object, dtype: object) -> Problem:
    """The problem of an array whose type of numbers can't be read."""
    what = f"an array of {dtype}, expected float32 or float16"
    return Problem(kind=Kind.TYPE, where=str(array), what=what, fix="convert it")


def arrays_by_stream(where: object, arrays: dict[str, Any]) -> dict[str, StoredArray]:
    """Pick the arrays named "rgb" and "flow"; a single one of another name is "joint". Raises DataError for anything else."""
    if set(STREAMS) & arrays.keys():
        return {stream: arrays[stream] for stream in STREAMS if stream in arrays}
    if len(arrays) == 1:
        return {"joint": next(iter(arrays.values()))}
    names = ", ".join(f"'{key}'" for key in list(arrays)[:6]) or "nothing"
    what = f"holds {names}"
    fix = "expected arrays named 'rgb' and 'flow', or a single one"
    raise DataError(Problem(kind=Kind.CONTENT, where=str(where), what=what, fix=fix))


@contextlib.contextmanager
def reading(where: object, format_name: str) -> Iterator[None]:
    """Turn the errors of reading a damaged file, which can be of any type, into a DataError that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.filename is not None):
            raise
        what = f"not a complete {format_name} ({type(error).__name__})"
        raise DataError(Problem(kind=Kind.DAMAGED, where=str(where), what=what, fix="write it again")) from None


def _load_torch(path: pathlib.Path) -> Any:
    with reading(path, ".pt file"):
        with open(path, "rb") as file:
            start = file.read(1)
        archive = zipfile.is_zipfile(path)
        if not archive and start != b"\x80":  # torch would call anything else unsafe
            raise ValueError
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Files in the old format can't be mapped.
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True if archive else None)
        except pickle.UnpicklingError:
            what = "holds more than tensors, which could run code"
            raise DataError(Problem(kind=Kind.PICKLED, where=str(path), what=what, fix="save plain tensors")) from None


def _map_npy(path: pathlib.Path) -> NDArray[Any]:
    """Map the file into memory. Raises DataError for anything but a complete .npy file without pickled objects."""
    with open(path, "rb") as file:
        start = file.read(6)
    if start[:1] == b"\x80":
        raise DataError(_pickled(path))
    if start != b"\x93NUMPY":
        what = "not an array in the .npy format"
        raise DataError(Problem(kind=Kind.CONTENT, where=str(path), what=what, fix="save it with numpy.save"))
    with reading(path, ".npy file"):
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if "pickle" in str(error) or "Python objects" in str(error):
                raise DataError(_pickled(path)) from None
            raise
    extra = path.stat().st_size - array.offset - array.nbytes
    if extra:
        what = f"{extra:,} bytes more than its header states"
        raise DataError(Problem(kind=Kind.DAMAGED, where=str(path), what=what, fix="write it again"))
    mapped: NDArray[Any] = array
    return mapped


def _pickled(where: object) -> Problem:
    what = "holds pickled objects, which could run code"
    return Problem(kind=Kind.PICKLED, where=str(where), what=what, fix="save a plain float array")
