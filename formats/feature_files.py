"""The features of one video as they lie in files: looked at, read and checked, at once or a few snippets at a time.

files = FeatureFiles("VIDEO", {"rgb": path, "flow": path}, streams=("rgb", "flow"), feature_size=1024)   # headers alone
files.load()                                                        # [L,D], everything
files[indices]                                                      # [len(indices),D], opened for this call only
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from formats.array_files import STREAMS, StoredArray, arrays_in
from utils.errors import InputError
from utils.segments import Indices

Located = Mapping[str, "pathlib.Path | StoredArray"]  # where a video's streams are; "joint": side by side in one array


class _Part(NamedTuple):
    array: StoredArray
    columns: slice  # of the stored array
    width: int  # channels that the stored array must have


class FeatureFiles:
    """Streams side by side: [L,D]. Raises InputError naming the file and what to do."""

    def __init__(self, video_id: str, located: Located, *, streams: tuple[str, ...], feature_size: int) -> None:
        self.video_id, self.feature_size = video_id, feature_size
        self.parts = _parts(video_id, open_streams(located), streams, feature_size)
        headers = [self._header(part) for part in self.parts]
        lengths = [shape[0] for shape, _ in headers]
        if len(set(lengths)) > 1:
            shapes = ", ".join(f"{part.array} has {n}" for part, n in zip(self.parts, lengths, strict=True))
            raise InputError(
                f"video '{video_id}': streams of different length in snippets: {shapes}; extract them again"
            )
        self.shape = lengths[0], feature_size * len(streams)
        half = all(dtype == np.float16 for _, dtype in headers)
        self.dtype: np.dtype[Any] = np.dtype(np.float16 if half else np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def load(self) -> NDArray[np.floating]:
        out = np.empty(self.shape, self.dtype)
        for part, target in self._targets(out):
            rows = part.array.rows(slice(None))
            self._check_length(part, len(rows))
            self._copy(part, rows, np.arange(len(self)), target)
        return out

    def __getitem__(self, indices: Indices) -> NDArray[np.floating]:
        out = np.empty((len(indices), self.shape[1]), self.dtype)
        for part, target in self._targets(out):
            (length, _), _ = self._header(part)
            self._check_length(part, length)
            self._copy(part, part.array.rows(indices), indices, target)
        return out

    def _targets(self, out: NDArray[np.floating]) -> Iterator[tuple[_Part, NDArray[np.floating]]]:
        """Every part, and its columns of `out`."""
        width = out.shape[1] // len(self.parts)
        for i, part in enumerate(self.parts):
            yield part, out[:, i * width : (i + 1) * width]

    def _check_length(self, part: _Part, length: int) -> None:
        if length != len(self):
            raise InputError(f"{part.array}: has {length} snippets now, had {len(self)}; leave it alone during a run")

    def _copy(self, part: _Part, rows: NDArray[Any], indices: Indices, target: NDArray[np.floating]) -> None:
        with np.errstate(over="ignore"):  # batches are float32, where a large float64 is infinite
            target[:] = rows[:, part.columns]
        finite = np.isfinite(target).all(1)
        if not finite.all():
            snippet = int(indices[np.flatnonzero(~finite)[0]])
            raise InputError(
                f"{part.array}: NaN or infinity in the features of video '{self.video_id}', first at snippet {snippet}; "
                "extract them again or drop the video"
            )

    def _header(self, part: _Part) -> tuple[tuple[int, int], np.dtype[Any]]:
        shape, stored = part.array.header()
        dtype = stored.newbyteorder("=")  # either order is read
        if dtype not in (np.float16, np.float32, np.float64):
            raise InputError(f"{part.array}: an array of {dtype}, expected float32 or float16")
        if len(shape) != 2 or shape[1] != part.width or shape[0] < 0:
            turned = " (it may be transposed)" if len(shape) == 2 and shape[0] == part.width else ""
            raise InputError(
                f"{part.array}: shape {shape}, expected [snippets, {part.width}]{turned}; see --feature_size and --modal"
            )
        if shape[0] == 0:
            raise InputError(f"{part.array}: no snippets; extract it again or drop the video")
        return (shape[0], shape[1]), dtype


def open_streams(located: Located) -> dict[str, StoredArray]:
    """The arrays, by stream or "joint". Raises InputError for a file that holds something else."""
    found: dict[str, StoredArray] = {}
    for stream, place in located.items():
        if not isinstance(place, pathlib.Path):
            found[stream] = place
            continue
        inside = arrays_in(place)
        if stream == "joint":
            found |= inside
        elif stream in inside or "joint" in inside:
            found[stream] = inside.get(stream) or inside["joint"]
        else:
            raise InputError(f"{place}: holds '{next(iter(inside))}', expected the features of stream '{stream}'")
    return found


def _parts(
    video_id: str, arrays: Mapping[str, StoredArray], streams: tuple[str, ...], feature_size: int
) -> list[_Part]:
    joint = arrays.get("joint")
    if joint is None:
        missing = [stream for stream in streams if stream not in arrays]
        if missing:
            there = ", ".join(str(array) for array in arrays.values())
            raise InputError(f"video '{video_id}': no stream '{missing[0]}' beside {there}; see --modal")
        return [_Part(arrays[stream], slice(None), feature_size) for stream in streams]
    width = feature_size * len(STREAMS)
    if len(streams) > 1:
        return [_Part(joint, slice(None), width)]
    if joint.header()[0][1:] == (feature_size,):
        return [_Part(joint, slice(None), feature_size)]  # the one stream that there is
    first = STREAMS.index(streams[0]) * feature_size
    return [_Part(joint, slice(first, first + feature_size), width)]
