"""Arrays as the field stores them, one per video or stream, behind one interface; nothing is ever unpickled.

    NpyArray(path)              VIDEO.npy, memory-mapped, or read block by block
    NpzArray(path, key="rgb")   one member of VIDEO.npz
    TorchArray(path, key=None)  VIDEO.pt: a tensor, or one of a dict of tensors; loaded with weights_only
    MemoryArray(...)            already read
    UnusableArray(problem)      not an array; an error when a video needs it

    array.header()              # shape and type, without the values where the format allows it
    array.rows(indices)         # [len(indices),D]; slice(None) reads everything
    row_blocks(array)           # everything, a block of rows at a time, as the format gives it best

A format that only one layout uses is in that layout's file (Hdf5Array in formats/hdf5.py). No file stays open: an open memory
map holds a file descriptor, of which a process has about a thousand.
"""

import contextlib
import io
import math
import os
import pathlib
import pickle
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from formats.names import shown
from formats.problems import DataError, Kind, Problem
from formats.regular_files import check_regular
from formats.torch_pickle import check_torch_pickle
from utils.errors import InputError
from utils.memory import check_fits, is_out_of_memory
from utils.segments import Indices

if TYPE_CHECKING:
    import torch  # elsewhere only where it is needed: loading it takes longer than opening a set

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
STREAMS = ("rgb", "flow")  # in the order of a joint array's channels
_STREAM_LAST = re.compile(r"(?:(?P<rest>.+)[-_. ]+)?(?P<stream>rgb|flow)", re.IGNORECASE)
_STREAM_FIRST = re.compile(r"(?P<stream>rgb|flow)[-_. ]+(?P<rest>.+)", re.IGNORECASE)

# Recorded features shrink by less than ten times. An archive that grows more than this is no longer features.
MOST_PACKED = 200
LARGEST_UNCHECKED = 64_000_000  # bytes, of which even zeros do no harm

BLOCK_BYTES = 2**20  # of a file that are read at a time: as much as stays in a processor's cache until it is used

# Numpy has Python parse a header, which Python 3.11 does wrong now and then when several threads do it at once.
_parsing = threading.Lock()

Rows = Indices | slice
Header = tuple[tuple[int, ...], np.dtype[Any]]

_NUMPY_TYPES = {  # numpy has no bfloat16; float32 holds it exactly
    "torch.float16": np.float16,
    "torch.bfloat16": np.float32,
    "torch.float32": np.float32,
    "torch.float64": np.float64,
}


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
        with _open_npy(self.path) as (_, shape, _, dtype):
            return shape, dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        with _open_npy(self.path) as (file, shape, order, dtype):
            mapped = np.memmap(file, dtype, mode="r", offset=file.tell(), shape=shape, order=order)
        return np.asarray(mapped[chosen])

    def blocks(self) -> Iterator[NDArray[Any]]:
        """All rows in order, some at a time; the next block takes the place of the one before."""
        with _open_npy(self.path) as (file, shape, order, dtype):
            if order == "C":
                row_bytes = max(1, array_bytes(shape[1:], dtype))
                block = np.empty((min(shape[0], max(1, BLOCK_BYTES // row_bytes)), *shape[1:]), dtype)
                for first in range(0, shape[0], max(1, len(block))):
                    rows = block[: shape[0] - first]
                    if file.readinto(rows.data) != rows.nbytes:  # it has been cut since it was opened
                        raise EOFError
                    yield rows
                return
        yield self.rows(slice(None))


@dataclass(frozen=True)
class NpzArray:
    path: pathlib.Path
    key: str = field(kw_only=True)

    def __str__(self) -> str:
        return f"{self.path} '{self.key}'"

    def header(self) -> Header:
        """Read only the member's first bytes. They promise no more than the archive says that it holds."""
        check_regular(self.path)
        with reading(self, "member of an .npz file"), zipfile.ZipFile(self.path) as archive:
            info = archive.getinfo(f"{self.key}.npy")
            with archive.open(info) as member:
                shape, dtype = read_npy_header(member)
                values = info.file_size - member.tell()
        if dtype.hasobject:
            raise DataError(_pickled(self))
        if min(shape, default=0) < 0 or array_bytes(shape, dtype) != values:
            what = f"its header promises {array_bytes(shape, dtype):,} bytes, it holds {values:,}"
            raise DataError(Problem(kind=Kind.DAMAGED, where=str(self), what=what, fix="write it again"))
        check_packing(self, unpacked=info.file_size, packed=info.compress_size)
        return shape, dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        shape, dtype = self.header()
        check_fits(array_bytes(shape, dtype), None, what=f"{self}: takes", instead="save it as .npy")
        with reading(self, "member of an .npz file"), zipfile.ZipFile(self.path) as archive:
            with archive.open(f"{self.key}.npy") as member:
                shape, order, dtype = _read_npy_start(member)
                values = np.frombuffer(member.read(), dtype)
            rows: NDArray[Any] = values.reshape(shape, order=order)[chosen]
        return rows


@dataclass(frozen=True)
class TorchArray:
    path: pathlib.Path
    key: str | None = field(kw_only=True)  # None: the file is a single tensor

    def __str__(self) -> str:
        return str(self.path) if self.key is None else f"{self.path} '{self.key}'"

    def header(self) -> Header:
        tensor = self._tensor()
        return tuple(tensor.shape), np.dtype(_NUMPY_TYPES[str(tensor.dtype)])

    def rows(self, chosen: Rows) -> NDArray[Any]:
        import torch

        tensor = self._tensor()[chosen if isinstance(chosen, slice) else torch.from_numpy(chosen)]
        rows: NDArray[Any] = (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()
        return rows

    def _tensor(self) -> "torch.Tensor":
        import torch

        content = _load_torch(self.path)
        with reading(self, "tensor of a .pt file"):  # the file may have been replaced since its arrays were listed
            tensor: torch.Tensor = (content if self.key is None else content[self.key]).detach()
        if (
            str(tensor.dtype) not in _NUMPY_TYPES
            or tensor.layout is not torch.strided
            or tensor.is_meta
            or tensor.is_nested
        ):
            kind = " ".join(str(part).removeprefix("torch.") for part in (tensor.dtype, tensor.layout))
            raise DataError(wrong_type(self, kind.removesuffix(" strided")))
        stored, used = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
        if used > stored:
            what = f"an expanded tensor: {used:,} bytes of values from {stored:,}"
            raise DataError(Problem(kind=Kind.CONTENT, where=str(self), what=what, fix="save tensor.contiguous()"))
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


@dataclass(frozen=True)
class ReshapedArray:
    """An array [L,D] that is stored with more axes, of length 1."""

    array: StoredArray
    rows_first: bool = field(kw_only=True)  # whether its first axis is that of the rows

    def __str__(self) -> str:
        return str(self.array)

    def header(self) -> Header:
        shape, dtype = self.array.header()
        return plain_shape(shape), dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        if self.rows_first:
            rows = self.array.rows(chosen)
            return rows.reshape(len(rows), -1)
        whole = self.array.rows(slice(None))
        return whole.reshape(plain_shape(whole.shape))[chosen]


def arrays_in(path: pathlib.Path) -> dict[str, StoredArray]:
    """The arrays in a file of one of SUFFIXES: {"rgb", "flow"}, or {"joint"} when it is a single array.

    Raises DataError when the file holds anything else.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return {"joint": NpyArray(path)}
    if suffix == ".npz":
        check_regular(path)
        with reading(path, ".npz file"), zipfile.ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        return arrays_by_stream(path, {key: NpzArray(path, key=key) for key in keys})
    import torch

    content = _load_torch(path)
    if isinstance(content, torch.Tensor):
        return {"joint": TorchArray(path, key=None)}
    if not isinstance(content, dict) or not any(_is_named_tensor(*item) for item in content.items()):
        what = f"holds a {type(content).__name__}, expected a tensor, or tensors 'rgb' and 'flow'"
        if content == {}:
            what = "holds nothing, expected a tensor, or tensors 'rgb' and 'flow'"
        raise DataError(Problem(kind=Kind.CONTENT, where=str(path), what=what, fix="save only these"))
    named = [key for key, value in content.items() if _is_named_tensor(key, value)]
    return arrays_by_stream(path, {key: TorchArray(path, key=key) for key in named})


def row_blocks(array: StoredArray) -> Iterator[NDArray[Any]]:
    """All rows of an array, once and in order; a block is to be used before the next is asked for."""
    if isinstance(array, NpyArray):
        yield from array.blocks()
    else:
        yield array.rows(slice(None))


def read_npy_header(file: IO[bytes]) -> Header:
    """Read a .npy file up to its values."""
    shape, _, dtype = _read_npy_start(file)
    return shape, dtype


def wrong_type(array: object, dtype: object) -> Problem:
    """The problem of an array whose type of numbers can't be read."""
    what = f"an array of {dtype}, expected float32 or float16"
    return Problem(kind=Kind.TYPE, where=str(array), what=what, fix="convert it")


def stream_of(name: str) -> tuple[str, str | None]:
    """What is left of a name without its stream, and the stream: "clip_rgb" and "RGB-clip" are ("clip", "rgb").

    The stream of a name that tells none, or both, is None.
    """
    match = _STREAM_LAST.fullmatch(name) or _STREAM_FIRST.fullmatch(name)
    if match is None:
        return name, None
    rest, stream = match["rest"] or "", match["stream"].lower()
    return (name, None) if stream_of(rest)[1] not in (None, stream) else (rest, stream)


def arrays_by_stream(where: object, arrays: Mapping[str, StoredArray]) -> dict[str, StoredArray]:
    """Pick the features among the arrays: those named by a stream, or else the only one that can be features ("joint").

    Frame numbers, names and rates may lie beside them. Raises DataError when more than one choice is possible, or none.
    """
    exact = {key.lower(): array for key, array in arrays.items() if key.lower() in STREAMS}
    if exact and len(exact) == sum(key.lower() in STREAMS for key in arrays):
        return {stream: exact[stream] for stream in STREAMS if stream in exact}
    if len(arrays) == 1:
        ((key, array),) = arrays.items()
        return {stream_of(key)[1] or "joint": array}
    candidates = {key: array for key, array in arrays.items() if _may_be_features(array)}
    streams: dict[str, list[StoredArray]] = {}
    for key, array in candidates.items():
        streams.setdefault(stream_of(key)[1] or "joint", []).append(array)
    named = {stream: streams[stream] for stream in STREAMS if stream in streams}
    chosen = named or streams
    if chosen and all(len(choice) == 1 for choice in chosen.values()):
        return {stream: array for stream, (array,) in chosen.items()}
    what = f"holds {shown(candidates or arrays, most=6) or 'nothing'}"
    fix = "expected arrays named 'rgb' and 'flow', or a single one"
    raise DataError(Problem(kind=Kind.CONTENT, where=str(where), what=what, fix=fix))


def plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape without axes of length 1, where two are left: [1,L,D], [L,D,1,1] and [L,1,1,D] are [L,D]."""
    plain = tuple(n for n in shape if n != 1)
    if len(shape) <= 2:
        return shape
    if len(plain) == 1 and shape[-1] == plain[0]:
        return 1, plain[0]  # a single snippet
    return plain if len(plain) == 2 else shape


def without_single_axes(array: StoredArray, header: Header) -> StoredArray:
    """The array, with this header, as one of its plain shape."""
    shape, _ = header
    plain = plain_shape(shape)
    return array if plain == shape else ReshapedArray(array, rows_first=shape[0] == plain[0])


def array_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


def check_packing(where: object, *, unpacked: int, packed: int) -> None:
    """Raise DataError for an array that compression made absurdly small: a trap for memory, not features."""
    if unpacked > max(LARGEST_UNCHECKED, MOST_PACKED * packed):
        what = f"{packed:,} bytes that unpack to {unpacked:,}"
        raise DataError(Problem(kind=Kind.DAMAGED, where=str(where), what=what, fix="extract the features again"))


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


def _is_named_tensor(key: object, value: object) -> bool:
    import torch

    return isinstance(key, str) and isinstance(value, torch.Tensor)


def _may_be_features(array: StoredArray) -> bool:
    """Whether these are numbers with a place for snippets and one for channels. Raises nothing: others are looked at too."""
    try:
        shape, dtype = array.header()
    except DataError:
        return False
    return len(plain_shape(shape)) == 2 and dtype.kind == "f"


def _load_torch(path: pathlib.Path) -> Any:
    import torch

    check_regular(path)
    with reading(path, ".pt file"):
        with open(path, "rb") as file:
            start = file.read(1)
        archive = zipfile.is_zipfile(path)
        if not archive and start != b"\x80":  # torch would call anything else unsafe
            raise ValueError
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                check_torch_pickle(path)
                # Files in the old format can't be mapped.
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True if archive else None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            what = "asks for more memory than there is"
            raise DataError(Problem(kind=Kind.DAMAGED, where=str(path), what=what, fix="write it again")) from None
        except pickle.UnpicklingError:
            what = "holds more than tensors, which could run code"
            raise DataError(Problem(kind=Kind.PICKLED, where=str(path), what=what, fix="save plain tensors")) from None


@contextlib.contextmanager
def _open_npy(
    path: pathlib.Path,
) -> Iterator[tuple[io.BufferedReader, tuple[int, ...], Literal["C", "F"], np.dtype[Any]]]:
    """The file at its values, with their shape, order and type.

    Raises DataError for anything but a complete .npy file without pickled objects.
    """
    check_regular(path)
    with open(path, "rb") as file:
        start = file.read(6)
        file.seek(0)
        if start[:1] == b"\x80":
            raise DataError(_pickled(path))
        if start != b"\x93NUMPY":
            what = "not an array in the .npy format"
            raise DataError(Problem(kind=Kind.CONTENT, where=str(path), what=what, fix="save it with numpy.save"))
        with reading(path, ".npy file"):
            shape, order, dtype = _read_npy_start(file)
            if dtype.hasobject:
                raise DataError(_pickled(path))
            extra = os.fstat(file.fileno()).st_size - file.tell() - array_bytes(shape, dtype)
            if extra < 0 or min(shape, default=0) < 0:
                raise EOFError
            if extra:
                what = f"{extra:,} bytes more than its header states"
                raise DataError(Problem(kind=Kind.DAMAGED, where=str(path), what=what, fix="write it again"))
            yield file, shape, order, dtype


def _read_npy_start(file: IO[bytes]) -> tuple[tuple[int, ...], Literal["C", "F"], np.dtype[Any]]:
    """Shape, order and type; the file is then at its values."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with _parsing:
        shape, fortran, dtype = read(file)
    return shape, "F" if fortran else "C", dtype


def _pickled(where: object) -> Problem:
    what = "holds pickled objects, which could run code"
    return Problem(kind=Kind.PICKLED, where=str(where), what=what, fix="save a plain float array")
