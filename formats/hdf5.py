"""The layout "hdf5". Needs the package h5py.

One .h5 or .hdf5 file with VIDEO -> [L,D], VIDEO/rgb and VIDEO/flow, or rgb/VIDEO and flow/VIDEO; or rgb.h5 and flow.h5 with
VIDEO -> [L,D] each.

A file may point to others, and to anything on the disk. So only arrays that lie in the file itself are read: no soft or
external links, virtual datasets or external storage. What else there is, is a problem of its video alone.
"""

import pathlib
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from formats.array_files import (
    STREAMS,
    Header,
    Rows,
    StoredArray,
    UnusableArray,
    arrays_by_stream,
    check_packing,
    reading,
    stream_of,
)
from formats.feature_folders import features_folder
from formats.feature_set import Storage, StoredFeatures, StoredSet
from formats.problems import DataError, Kind, Problem, Report
from formats.regular_files import check_regular
from utils.errors import InputError

SUFFIXES = (".h5", ".hdf5")
DEEPEST = 3  # groups in groups that are looked into
FILTERS = (1, 2, 3, 4, 5, 6, 32000)  # of HDF5 itself, and h5py's lzf: others would load a plugin

Arrays = dict[str, StoredArray]


class Hdf5Layout:
    name = "hdf5"
    looked_for = "one .h5 or .hdf5 file, or rgb.h5 and flow.h5"

    def fits(self, path: pathlib.Path) -> bool:
        return bool(_set_files(path))

    def read(self, path: pathlib.Path, *, allow_pickle: bool, report: Report) -> StoredSet:
        files = _set_files(path)
        expected = f"{' and '.join(map(str, files.values()))} entry '{{video}}'"
        videos: dict[str, Arrays] = {}
        for stream, file in files.items():
            for video, arrays in arrays_in_hdf5(file).items():
                named = arrays if stream == "joint" or stream in arrays else {stream: next(iter(arrays.values()))}
                videos.setdefault(video, {}).update(named)
        note = _note(videos)
        features = StoredFeatures(videos=videos, expected=expected, joint=True, note=note)
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
            dataset = self._dataset(file)
            return dataset.shape or (), dataset.dtype

    def rows(self, chosen: Rows) -> NDArray[Any]:
        with reading(self, "array of an HDF5 file"), _open_hdf5(self.path) as file:
            dataset = self._dataset(file)
            if isinstance(chosen, slice):
                rows: NDArray[Any] = dataset[chosen]
                return rows
            first, stop = int(chosen.min()), int(chosen.max()) + 1  # single rows are slow
            rows = dataset[first:stop][chosen - first]
            return rows

    def _dataset(self, file: Any) -> Any:
        """The dataset in the open file, by links that stay in it. Raises DataError for anything else."""
        node = file
        for name in self.key.split("/"):
            node = _linked(node, name, where=str(self))
        _check_plain(node, where=str(self))
        return node


def arrays_in_hdf5(path: pathlib.Path) -> dict[str, Arrays]:
    """{video: {"joint"} or {"rgb", "flow"}}. Raises DataError for a damaged file."""
    with reading(path, "HDF5 file"), _open_hdf5(path) as file:
        names = list(file)
        if names and all(_holds_videos(file, name) for name in names):
            return _by_video(path, file)
        return {video: _entry(path, file, video) for video in names}


def hdf5_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The HDF5 files in a folder itself; none where there is no such folder."""
    entries = path.iterdir() if path.is_dir() else ()
    return sorted(file for file in entries if file.suffix.lower() in SUFFIXES and file.is_file())


def _set_files(path: pathlib.Path) -> dict[str, pathlib.Path]:
    """The file of a set ("joint"), or its files by stream, in its folder or the folder features/ in that."""
    files = hdf5_files(path) or hdf5_files(features_folder(path))
    if len(files) == 1:
        return {"joint": files[0]}
    streams = {stream_of(file.stem)[1]: file for file in files}
    return {s: streams[s] for s in STREAMS} if streams.keys() == set(STREAMS) and len(files) == len(STREAMS) else {}


def _note(videos: dict[str, Arrays]) -> str:
    """Where the features were found, if not at VIDEO or VIDEO/STREAM; else ""."""
    video, arrays = next(iter(videos.items()), ("", {}))
    read = {stream: array for stream, array in arrays.items() if isinstance(array, Hdf5Array)}
    if all(
        array.key.startswith(f"{video}/") or (stream, array.key) == ("joint", video) for stream, array in read.items()
    ):
        return ""
    return f"features of '{video}' found in {' and '.join(map(str, read.values()))}"


def _entry(path: pathlib.Path, group: Any, name: str, *, depth: int = 0) -> Arrays:
    """The arrays of the entry `name` of a group: itself, or those in it. An entry that can't be read spoils no other."""
    where = f"{path} '{_key(group, name)}'"
    try:
        with reading(where, "entry of an HDF5 file"):
            entry = _linked(group, name, where=where)
            if hasattr(entry, "shape"):
                return {"joint": Hdf5Array(path, key=_key(group, name))}
            if not hasattr(entry, "keys"):
                what = "neither an array nor a group of arrays"
                raise DataError(Problem(kind=Kind.CONTENT, where=where, what=what, fix="write it again"))
            arrays = {key: Hdf5Array(path, key=_key(entry, key)) for key in entry if _is_array(entry, key)}
            if not arrays and len(entry) == 1 and depth < DEEPEST:
                return _entry(path, entry, next(iter(entry)), depth=depth + 1)
            if not arrays and len(entry):
                what = f"holds no arrays, but {', '.join(list(entry)[:6])}"
                raise DataError(Problem(kind=Kind.CONTENT, where=where, what=what, fix="put the arrays there"))
            return arrays_by_stream(where, arrays)
    except DataError as error:
        return {"joint": UnusableArray(error.problem)}


def _holds_videos(file: Any, name: str) -> bool:
    """Whether this entry is a stream that holds its videos, rgb/VIDEO, and not a video of that name."""
    if name.lower() not in STREAMS or not _is_hard(file, name) or not hasattr(file[name], "keys"):
        return False
    members = list(file[name])
    return bool(members) and not all(member.lower() in STREAMS for member in members)


def _by_video(path: pathlib.Path, file: Any) -> dict[str, Arrays]:
    videos: dict[str, Arrays] = {}
    for name in sorted(file, reverse=True):  # rgb first
        for video in file[name]:
            (array, *_) = _entry(path, file[name], video).values()
            videos.setdefault(video, {})[name.lower()] = array
    return videos


def _key(group: Any, name: str) -> str:
    return f"{group.name}/{name}".strip("/")


def _is_hard(group: Any, name: str) -> bool:
    import h5py

    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _is_array(group: Any, name: str) -> bool:
    return _is_hard(group, name) and hasattr(group[name], "shape")


def _linked(group: Any, name: str, *, where: str) -> Any:
    """What a group holds under this name. Raises DataError for a link that could lead elsewhere, or nowhere."""
    if not _is_hard(group, name):
        what = "a link to another place, which is not followed"
        raise DataError(Problem(kind=Kind.CONTENT, where=where, what=what, fix="copy the array into the file"))
    return group[name]


def _check_plain(dataset: Any, *, where: str) -> None:
    """Raise DataError unless the values lie in the file itself, and need no plugin."""
    what = ""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if dataset.is_virtual or properties.get_external_count():
        what = "its values are in another file, which is not read"
    elif any(number not in FILTERS for number in filters):
        what = "it is compressed by a plugin, which is not loaded"
    if what:
        raise DataError(
            Problem(kind=Kind.CONTENT, where=where, what=what, fix="copy the array into the file, or use gzip")
        )
    stored = dataset.id.get_storage_size()
    if dataset.size and not stored:
        what = "its values were never written"
        raise DataError(Problem(kind=Kind.DAMAGED, where=where, what=what, fix="extract the features again"))
    check_packing(where, unpacked=dataset.nbytes, packed=stored)


def _open_hdf5(path: pathlib.Path) -> Any:
    try:
        import h5py
    except ImportError:
        raise InputError(f"{path}: HDF5 files need the package h5py; pip install -r requirements-hdf5.txt") from None
    check_regular(path)
    with reading(path, "HDF5 file"):
        return h5py.File(path, "r", locking="best-effort")  # network file systems may not support locks
