"""Arrays as the field stores them, one a video or stream, behind one interface; nothing in here is pickled.

    NpyArray(path)      VIDEO.npy, memory-mapped
    NpzArray(path, key) one member of VIDEO.npz
    TorchArray(path, key) VIDEO.pt: a tensor, or one of a dict of tensors; loaded with weights_only
    Hdf5Array(path, key) a dataset of an HDF5 file; needs the package h5py
    MemoryArray(where, array) already read

    array.header()         # shape and type, without the values where the format allows it
    array.rows(indices)    # [len(indices),D]; slice(None) reads everything

No file stays open: an open memory map holds a file descriptor, of which a process has about a thousand.
"""

import contextlib
import pathlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from utils.errors import InputError
from utils.memory import is_out_of_memory
from utils.segments import Indices

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
STREAMS = ("rgb", "flow")  # in the order of a joint array's channels

Rows = Indices | slice
Header = tuple[tuple[int, ...], np.dtype[Any]]

_NUMPY_TYPES = {  # bfloat16 is unknown to numpy, float32 holds it
    torch.float16: np.float16,
    torch.bfloat16: np.float32,
    torch.float32: np.float32,
    torch.float64: np.float64,
}
_TORCH_TYPES = {torch.bfloat16: torch.float32}

PICKLED = "holds pickled objects, which could run code; save a plain float array"


class StoredArray(Protocol):
    """What str() gives names the array in messages."""

    def header(self) -> Header:
        """Shape and type. Raises InputError for a damaged file."""

    def rows(self, chosen: Rows) -> NDArray[Any]:
        """The rows at these positions, perhaps of a mapped file. Raises InputError for a damaged file."""


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
    key: str

    def __str__(self) -> str:
        return f"{self.path} '{self.key}'"

    def header(self) -> Header:
        """Of the member's first bytes alone."""
        with (
            _reading(self, "member of an .npz file"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(f"{self.key}.npy") as member,
        ):
            shape, dtype = read_npy_header(member)
        if dtype.hasobject:
            raise InputError(f"{self}: {PICKLED}")
        return shape, dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        with _reading(self, "member of an .npz file"), np.load(self.path, allow_pickle=False) as archive:
            rows: NDArray[Any] = archive[self.key][chosen]
        return rows


@dataclass(frozen=True)
class TorchArray:
    path: pathlib.Path
    key: str | None

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
        tensor: torch.Tensor = (content if self.key is None else content[self.key]).detach()
        if tensor.dtype not in _NUMPY_TYPES or tensor.layout is not torch.strided or tensor.is_meta or tensor.is_nested:
            kind = " ".join(str(part).removeprefix("torch.") for part in (tensor.dtype, tensor.layout))
            raise InputError(f"{self}: an array of {kind.removesuffix(' strided')}, expected float32 or float16")
        return tensor


@dataclass(frozen=True)
class Hdf5Array:
    path: pathlib.Path
    key: str

    def __str__(self) -> str:
        return f"{self.path} '{self.key}'"

    def header(self) -> Header:
        with _reading(self, "array of an HDF5 file"), open_hdf5(self.path) as file:
            dataset = file[self.key]
            return dataset.shape or (), dataset.dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        with _reading(self, "array of an HDF5 file"), open_hdf5(self.path) as file:
            if isinstance(chosen, slice):
                rows: NDArray[Any] = file[self.key][chosen]
                return rows
            first, stop = int(chosen.min()), int(chosen.max()) + 1  # single rows are slow
            rows = file[self.key][first:stop][chosen - first]
            return rows


@dataclass(frozen=True)
class UnusableArray:
    """Something else in the place of an array. It matters only when a video is called so."""

    where: str
    reason: str

    def __str__(self) -> str:
        return self.where

    def header(self) -> Header:
        raise InputError(f"{self.where}: {self.reason}")

    def rows(self, chosen: Rows) -> NDArray[Any]:
        raise InputError(f"{self.where}: {self.reason}")


@dataclass(frozen=True)
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
    """What a file of one of SUFFIXES holds: {"rgb", "flow"}, or {"joint"} when it is a single array.

    Raises InputError when it is neither.
    """
    if path.suffix == ".npy":
        return {"joint": NpyArray(path)}
    if path.suffix == ".npz":
        with _reading(path, ".npz file"), zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
        return _by_stream(path, {key: NpzArray(path, key) for key in keys})
    content = _load_torch(path)
    if isinstance(content, torch.Tensor):
        return {"joint": TorchArray(path, None)}
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a tensor, or tensors 'rgb' and 'flow'")
    return _by_stream(path, {key: TorchArray(path, key) for key in content})


def arrays_in_hdf5(path: pathlib.Path) -> dict[str, dict[str, StoredArray]]:
    """{video: {"joint"} or {"rgb", "flow"}} of VIDEO -> [L,D] or VIDEO/{rgb,flow}. Raises InputError for a damaged file."""
    with _reading(path, "HDF5 file"), open_hdf5(path) as file:
        return {video: _hdf5_entry(path, video, file.get(video)) for video in file}


def _hdf5_entry(path: pathlib.Path, video: str, entry: Any) -> dict[str, StoredArray]:
    where = f"{path} '{video}'"
    if hasattr(entry, "shape"):
        return {"joint": Hdf5Array(path, video)}
    if not hasattr(entry, "keys"):
        return {"joint": UnusableArray(where, "neither an array nor a group of them")}
    try:
        return _by_stream(where, {k: Hdf5Array(path, f"{video}/{k}") for k in entry if hasattr(entry.get(k), "shape")})
    except InputError as error:
        return {"joint": UnusableArray(where, str(error).removeprefix(f"{where}: "))}


def open_hdf5(path: pathlib.Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 files need the package h5py: pip install -r requirements-hdf5.txt") from None
    with _reading(path, "HDF5 file"):
        return h5py.File(path, "r", locking="best-effort")  # network file systems may have no locks


def read_npy_header(file: IO[bytes]) -> Header:
    """Of a .npy file, as far as its values."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _by_stream(where: object, arrays: dict[str, Any]) -> dict[str, StoredArray]:
    if set(STREAMS) & arrays.keys():
        return {stream: arrays[stream] for stream in STREAMS if stream in arrays}
    if len(arrays) == 1:
        return {"joint": next(iter(arrays.values()))}
    names = ", ".join(f"'{key}'" for key in list(arrays)[:6]) or "nothing"
    raise InputError(f"{where}: holds {names}; expected arrays named 'rgb' and 'flow', or a single one")


@contextlib.contextmanager
def _reading(what: object, kind: str) -> Iterator[None]:
    """A damaged file makes the readers fail in any way: whatever it is becomes an InputError that names the file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        if is_out_of_memory(error) or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise InputError(f"{what}: not a whole {kind} ({type(error).__name__}); write it again") from None


def _load_torch(path: pathlib.Path) -> Any:
    with _reading(path, ".pt file"):
        with open(path, "rb") as file:
            start = file.read(1)
        archive = zipfile.is_zipfile(path)
        if not archive and start != b"\x80":  # torch would say of anything that it is unsafe
            raise ValueError
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # Files in the old format can't be mapped.
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True if archive else None)
        except pickle.UnpicklingError:
            raise InputError(f"{path}: holds more than tensors, which could run code; save plain tensors") from None


def _map_npy(path: pathlib.Path) -> NDArray[Any]:
    """Memory-mapped. Raises InputError for anything but a whole .npy file without pickled objects."""
    with open(path, "rb") as file:
        start = file.read(6)
    if start[:1] == b"\x80":
        raise InputError(f"{path}: {PICKLED}")
    if start != b"\x93NUMPY":
        raise InputError(f"{path}: not an array in the .npy format; save it with numpy.save")
    with _reading(path, ".npy file"):
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if "pickle" in str(error) or "Python objects" in str(error):
                raise InputError(f"{path}: {PICKLED}") from None
            raise
    extra = path.stat().st_size - array.offset - array.nbytes
    if extra:
        raise InputError(f"{path}: {extra:,} bytes more than its header speaks of; write it again")
    mapped: NDArray[Any] = array
    return mapped
