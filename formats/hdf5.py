"""The layout "hdf5": one .h5 or .hdf5 file, VIDEO -> [L,D] or VIDEO/rgb and VIDEO/flow. Needs the package h5py."""

import pathlib
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from formats.array_files import Header, Rows, StoredArray, UnusableArray, arrays_by_stream, reading
from formats.feature_set import Storage, StoredFeatures, StoredSet
from formats.problems import DataError, Kind, Problem, Report
from utils.errors import InputError


class Hdf5Layout:
    name = "hdf5"
    looked_for = "one .h5 or .hdf5 file"

    def fits(self, path: pathlib.Path) -> bool:
        return len(_hdf5_files(path)) == 1

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        (file,) = _hdf5_files(path)
        features = StoredFeatures(videos=arrays_in_hdf5(file), expected=f"{file} entry '{{video}}'", joint=True)
        return StoredSet(storage=Storage.undivided(features))


@dataclass(frozen=True)
class Hdf5Array:
    """One dataset of the file."""

    path: pathlib.Path
    key: str = field(kw_only=True)

    def __str__(self) -> str:
        return f"{self.path} '{self.key}'"

    def header(self) -> Header:
        with reading(self, "array of an HDF5 file"), _open_hdf5(self.path) as file:
            dataset = file[self.key]
            return dataset.shape or (), dataset.dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        with reading(self, "array of an HDF5 file"), _open_hdf5(self.path) as file:
            if isinstance(chosen, slice):
                rows: NDArray[Any] = file[self.key][chosen]
                return rows
            first, stop = int(chosen.min()), int(chosen.max()) + 1  # single rows are slow
            rows = file[self.key][first:stop][chosen - first]
            return rows


def arrays_in_hdf5(path: pathlib.Path) -> dict[str, dict[str, StoredArray]]:
    """{video: {"joint"} or {"rgb", "flow"}}. Raises DataError for a damaged file."""
    with reading(path, "HDF5 file"), _open_hdf5(path) as file:
        return {video: _entry(path, video, file.get(video)) for video in file}


def _entry(path: pathlib.Path, video: str, entry: Any) -> dict[str, StoredArray]:
    where = f"{path} '{video}'"
    if hasattr(entry, "shape"):
        return {"joint": Hdf5Array(path, key=video)}
    if not hasattr(entry, "keys"):
        what = "neither an array nor a group of arrays"
        return {"joint": UnusableArray(Problem(kind=Kind.CONTENT, where=where, what=what, fix="write it again"))}
    try:
        arrays = {key: Hdf5Array(path, key=f"{video}/{key}") for key in entry if hasattr(entry.get(key), "shape")}
        return arrays_by_stream(where, arrays)
    except DataError as error:
        return {"joint": UnusableArray(error.problem)}


def _hdf5_files(path: pathlib.Path) -> list[pathlib.Path]:
    return sorted(file for file in path.iterdir() if file.suffix in (".h5", ".hdf5") and file.is_file())


def _open_hdf5(path: pathlib.Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 files need the package h5py; pip install -r requirements-hdf5.txt") from None
    with reading(path, "HDF5 file"):
        return h5py.File(path, "r", locking="best-effort")  # network file systems may not support locks
