"""The features of one video in their files: inspected, read and checked, at once or a few snippets at a time.

files = FeatureFiles("VIDEO", {"rgb": path, "flow": path}, streams=("rgb", "flow"), feature_size=1024)   # reads only headers
files.load()                # [L,D], everything
files[indices]              # [len(indices),D]; files are open only during this call
"""

import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.array_files import STREAMS, StoredArray, arrays_in, wrong_type
from formats.problems import DataError, Kind, Problem
from utils.segments import Indices

Located = Mapping[str, "pathlib.Path | StoredArray"]  # where a video's streams are; "joint": side by side in one array


@dataclass(frozen=True, kw_only=True)
class Part:
    """One array of a video, or the required columns of a joint array."""

    array: StoredArray
    columns: slice  # of the stored array
    width: int  # channels that the stored array must have


class FeatureFiles:
    """The streams of a video side by side, [L,D]. Raises DataError naming the file and what to do."""

    def __init__(self, video_id: str, located: Located, *, streams: tuple[str, ...], feature_size: int) -> None:
        self.video_id, self.feature_size = video_id, feature_size
        self.parts = _parts(video_id, open_streams(located), streams=streams, feature_size=feature_size)
        headers = [self._header(part) for part in self.parts]
        lengths = [shape[0] for shape, _ in headers]
        if len(set(lengths)) > 1:
            shapes = ", ".join(f"{part.array} has {n}" for part, n in zip(self.parts, lengths, strict=True))
            raise DataError(
                Problem(
                    kind=Kind.LENGTHS,
                    where=f"video '{video_id}'",
                    what=f"streams of different length in snippets: {shapes}",
                    fix="extract them again",
                    video=video_id,
                )
            )
        self.shape = lengths[0], feature_size * len(streams)
        half = all(dtype == np.float16 for _, dtype in headers)
        self.dtype: np.dtype[Any] = np.dtype(np.float16 if half else np.float32)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def paths(self) -> tuple[pathlib.Path, ...]:
        """The files that hold the features, as far as they are read from files of their own kind."""
        return tuple(part.array.path for part in self.parts if hasattr(part.array, "path"))

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def load(self) -> NDArray[np.floating]:
        out = np.empty(self.shape, self.dtype)
        for part, target in self._targets(out):
            rows = part.array.rows(slice(None))
            self._check_length(part, len(rows))
            self._copy(part, rows, indices=np.arange(len(self)), target=target)
        return out

    def __getitem__(self, indices: Indices) -> NDArray[np.floating]:
        out = np.empty((len(indices), self.shape[1]), self.dtype)
        for part, target in self._targets(out):
            (length, _), _ = self._header(part)
            self._check_length(part, length)
            self._copy(part, part.array.rows(indices), indices=indices, target=target)
        return out

    def _targets(self, out: NDArray[np.floating]) -> Iterator[tuple[Part, NDArray[np.floating]]]:
        """Pair every part with its columns of `out`."""
        width = out.shape[1] // len(self.parts)
        for i, part in enumerate(self.parts):
            yield part, out[:, i * width : (i + 1) * width]

    def _check_length(self, part: Part, length: int) -> None:
        if length != len(self):
            what = f"has {length} snippets now, had {len(self)}"
            raise self._error(part, kind=Kind.CHANGED, what=what, fix="don't change it during a run")

    def _copy(self, part: Part, rows: NDArray[Any], *, indices: Indices, target: NDArray[np.floating]) -> None:
        with np.errstate(over="ignore"):  # a large float64 is infinite in a float32 batch
            target[:] = rows[:, part.columns]
        finite = np.isfinite(target).all(1)
        if not finite.all():
            snippet = int(indices[np.flatnonzero(~finite)[0]])
            what = f"NaN or infinity in the features of video '{self.video_id}', first at snippet {snippet}"
            raise self._error(part, kind=Kind.NOT_FINITE, what=what, fix="extract them again or drop the video")

    def _header(self, part: Part) -> tuple[tuple[int, int], np.dtype[Any]]:
        shape, stored = part.array.header()
        dtype = stored.newbyteorder("=")  # either byte order is read
        if dtype not in (np.float16, np.float32, np.float64):
            raise DataError(wrong_type(part.array, dtype).of(self.video_id))
        if len(shape) != 2 or shape[1] != part.width or shape[0] < 0:
            turned = " (it may be transposed)" if len(shape) == 2 and shape[0] == part.width else ""
            what = f"shape {shape}, expected [snippets, {part.width}]{turned}"
            raise self._error(part, kind=Kind.SHAPE, what=what, fix="see --feature_size and --modal")
        if shape[0] == 0:
            fix = "extract it again or drop the video"
            raise self._error(part, kind=Kind.NO_SNIPPETS, what="no snippets", fix=fix)
        return (shape[0], shape[1]), dtype

    def _error(self, part: Part, *, kind: Kind, what: str, fix: str) -> DataError:
        return DataError(Problem(kind=kind, where=str(part.array), what=what, fix=fix, video=self.video_id))


def open_streams(located: Located) -> dict[str, StoredArray]:
    """The arrays, by stream or "joint". Raises DataError for a file of another stream."""
    arrays: dict[str, StoredArray] = {}
    for stream, place in located.items():
        if not isinstance(place, pathlib.Path):
            arrays[stream] = place
            continue
        inside = arrays_in(place)
        if stream == "joint":
            arrays |= inside
        elif stream in inside or "joint" in inside:
            arrays[stream] = inside.get(stream) or inside["joint"]
        else:
            what = f"holds '{next(iter(inside))}', expected the features of stream '{stream}'"
            fix = f"save the stream there, or name it '{stream}'"
            raise DataError(Problem(kind=Kind.CONTENT, where=str(place), what=what, fix=fix))
    return arrays


def _parts(
    video_id: str, arrays: Mapping[str, StoredArray], *, streams: tuple[str, ...], feature_size: int
) -> list[Part]:
    joint = arrays.get("joint")
    if joint is None:
        missing = [stream for stream in streams if stream not in arrays]
        if missing:
            present = ", ".join(str(array) for array in arrays.values())
            what = f"no stream '{missing[0]}' beside {present}"
            where = f"video '{video_id}'"
            raise DataError(Problem(kind=Kind.NO_STREAM, where=where, what=what, fix="see --modal", video=video_id))
        return [Part(array=arrays[stream], columns=slice(None), width=feature_size) for stream in streams]
    width = feature_size * len(STREAMS)
    if len(streams) > 1:
        return [Part(array=joint, columns=slice(None), width=width)]
    if joint.header()[0][1:] == (feature_size,):
        return [Part(array=joint, columns=slice(None), width=feature_size)]  # a file of one stream
    first = STREAMS.index(streams[0]) * feature_size
    return [Part(array=joint, columns=slice(first, first + feature_size), width=width)]
