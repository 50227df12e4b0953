"""Arrays as the field stores them, one a video or stream, behind one interface; nothing in here is pickled.

    NpyArray(path)      VIDEO.npy, memory-mapped
    NpzArray(path, key) one member of VIDEO.npz
    TorchArray(path, key) VIDEO.pt: a tensor, or one of a dict of tensors; loaded with weights_only
    Hdf5Array(path, key) a dataset of an HDF5 file; needs the package h5py
    MemoryArray(where, array) already read

    array.header()         # shape and type, without the values where the format allows it
    array.rows(indices)    # [len(indices),D]

No file stays open: an open memory map holds a file descriptor, of which a process has about a thousand.
"""

import pathlib
import zipfile
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from utils.arrays import Indices
from utils.errors import InputError

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
STREAMS = ("rgb", "flow")  # in the order of a joint array's channels

PICKLED = "holds pickled objects, which could run code; save a plain float array"


class StoredArray(Protocol):
    """What str() gives names the array in messages."""

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type. Raises InputError for a damaged file."""

    def rows(self, indices: Indices) -> NDArray[Any]:
        """A copy of the rows at `indices`. Raises InputError for a damaged file."""


@dataclass(frozen=True)
class NpyArray:
    path: pathlib.Path

    def __str__(self) -> str:
        return str(self.path)

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        array = _map_npy(self.path)
        return array.shape, array.dtype

    def rows(self, indices: Indices) -> NDArray[Any]:
        rows: NDArray[Any] = _map_npy(self.path)[indices]
        return rows


@dataclass(frozen=True)
class NpzArray:
    path: pathlib.Path
    key: str

    def __str__(self) -> str:
        return f"{self.path} '{self.key}'"

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Of the member's first bytes alone."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.key}.npy") as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
        except OSError:
            raise
        except Exception as error:  # a damaged archive or header makes the readers fail in any way
            raise _broken(self, "member of an .npz file", error) from None
        if dtype.hasobject:
            raise InputError(f"{self}: {PICKLED}")
        return shape, dtype

    def rows(self, indices: Indices) -> NDArray[Any]:
        self.header()
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                rows: NDArray[Any] = archive[self.key][indices]
                return rows
        except (OSError, MemoryError):
            raise
        except Exception as error:
            raise _broken(self, "member of an .npz file", error) from None


@dataclass(frozen=True)
class TorchArray:
    path: pathlib.Path
    key: str | None

    def __str__(self) -> str:
        return str(self.path) if self.key is None else f"{self.path} '{self.key}'"

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        array = self._array()
        return array.shape, array.dtype

    def rows(self, indices: Indices) -> NDArray[Any]:
        rows: NDArray[Any] = self._array()[indices]
        return rows

    def _array(self) -> NDArray[Any]:
        content = _load_torch(self.path)
        tensor = content if self.key is None else content[self.key]
        if tensor.dtype == torch.bfloat16:  # unknown to numpy
            tensor = tensor.float()
        array: NDArray[Any] = tensor.detach().numpy()
        return array


@dataclass(frozen=True)
class Hdf5Array:
    path: pathlib.Path
    key: str

    def __str__(self) -> str:
        return f"{self.path} '{self.key}'"

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        with open_hdf5(self.path) as file:
            dataset = file[self.key]
            return dataset.shape, dataset.dtype

    def rows(self, indices: Indices) -> NDArray[Any]:
        try:
            with open_hdf5(self.path) as file:
                first, stop = int(indices.min()), int(indices.max()) + 1
                rows: NDArray[Any] = file[self.key][first:stop][indices - first]
                return rows
        except OSError as error:  # h5py's word for a damaged block, with neither a number nor the file's name
            raise _broken(self, "array of an HDF5 file", error) from None


@dataclass(frozen=True)
class MemoryArray:
    where: str
    array: NDArray[Any]

    def __str__(self) -> str:
        return self.where

    def header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        return self.array.shape, self.array.dtype

    def rows(self, indices: Indices) -> NDArray[Any]:
        rows: NDArray[Any] = self.array[indices]
        return rows


def arrays_in(path: pathlib.Path) -> dict[str, StoredArray]:
    """What a file of one of SUFFIXES holds: {"rgb", "flow"}, or {"joint"} when it is a single array.

    Raises InputError when it is neither.
    """
    if path.suffix == ".npy":
        return {"joint": NpyArray(path)}
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path) as archive:
                keys = [name.removesuffix(".npy") for name in archive.namelist()]
        except zipfile.BadZipFile as error:
            raise _broken(path, ".npz file", error) from None
        return _by_stream(path, {key: NpzArray(path, key) for key in keys})
    content = _load_torch(path)
    if isinstance(content, torch.Tensor):
        return {"joint": TorchArray(path, None)}
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected a tensor, or tensors 'rgb' and 'flow'")
    return _by_stream(path, {str(key): TorchArray(path, key) for key in content})


def arrays_in_hdf5(path: pathlib.Path) -> dict[str, dict[str, StoredArray]]:
    """{video: {"joint"} or {"rgb", "flow"}} of a file with VIDEO -> [L,D] or VIDEO/{rgb,flow}. Raises InputError."""
    with open_hdf5(path) as file:
        found: dict[str, dict[str, StoredArray]] = {}
        for video, entry in file.items():
            if hasattr(entry, "shape"):
                found[video] = {"joint": Hdf5Array(path, video)}
            else:
                inside = {key: Hdf5Array(path, f"{video}/{key}") for key in entry if hasattr(entry[key], "shape")}
                found[video] = _by_stream(f"{path} '{video}'", inside)
    return found


def open_hdf5(path: pathlib.Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 files need the package h5py: pip install -r requirements-hdf5.txt") from None
    try:
        return h5py.File(path, "r", locking="best-effort")  # network file systems may have no locks
    except OSError as error:
        if isinstance(error, PermissionError | FileNotFoundError):
            raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
        raise _broken(path, "HDF5 file", error) from None


def _by_stream(where: object, arrays: dict[str, Any]) -> dict[str, StoredArray]:
    if set(STREAMS) & arrays.keys():
        return {stream: arrays[stream] for stream in STREAMS if stream in arrays}
    if len(arrays) == 1:
        return {"joint": next(iter(arrays.values()))}
    names = ", ".join(f"'{key}'" for key in list(arrays)[:6]) or "nothing"
    raise InputError(f"{where}: holds {names}; expected arrays named 'rgb' and 'flow', or a single one")


def _broken(what: object, kind: str, error: Exception) -> InputError:
    return InputError(f"{what}: not a whole {kind} ({type(error).__name__}); write it again")


def _load_torch(path: pathlib.Path) -> Any:
    try:
        whole = not zipfile.is_zipfile(path)  # files in the old format can't be mapped
        return torch.load(path, map_location="cpu", weights_only=True, mmap=None if whole else True)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise InputError(f"{path}: holds more than tensors, which could run code; save plain tensors") from None
        raise _broken(path, ".pt file", error) from None


def _map_npy(path: pathlib.Path) -> NDArray[Any]:
    """Memory-mapped. Raises InputError for anything but a whole .npy file without pickled objects."""
    with open(path, "rb") as file:
        start = file.read(6)
    if start[:1] == b"\x80":
        raise InputError(f"{path}: {PICKLED}")
    if start != b"\x93NUMPY":
        raise InputError(f"{path}: not an array in the .npy format; save it with numpy.save")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a broken header raises whatever Python's own parser does
        if "pickle" in str(error) or "Python objects" in str(error):
            raise InputError(f"{path}: {PICKLED}") from None
        raise _broken(path, ".npy file", error) from None
    return array
