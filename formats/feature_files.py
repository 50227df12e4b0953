"""The features of one video in their files: inspected, read and checked, at once or a few snippets at a time.

files = FeatureFiles("VIDEO", {"rgb": path, "flow": path}, streams=("rgb", "flow"), feature_size=1024)   # reads only headers
files.load()                # [L,D], everything
files[indices]              # [len(indices),D]; files are open only during this call
"""

import pathlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.array_files import (
    STREAMS,
    StoredArray,
    arrays_in,
    plain_shape,
    row_blocks,
    without_single_axes,
    wrong_type,
)
from formats.problems import DataError, Kind, Problem
from utils.segments import Indices

Located = Mapping[str, "pathlib.Path | StoredArray"]  # where a video's streams are; "joint": side by side in one array


# Flow is computed between frames, so that it may lack the last snippets: so many of the longer stream are left out.
MOST_CUT = 2

TRANSPOSED = " (it may be transposed: [snippets, channels] is wanted)"
TRANSPOSE = "transpose the arrays"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One array of a video, or the required columns of a joint array."""

    array: StoredArray
    columns: slice  # of the stored array
    width: int  # channels that the stored array must have


class FeatureFiles:
    """The streams of a video side by side, [L,D]. Raises DataError naming the file and what to do.

    L is the length of the shorter stream; `cut` is the number of snippets by which the other is longer, at most MOST_CUT.
    """

    def __init__(self, video_id: str, located: Located, *, streams: tuple[str, ...], feature_size: int) -> None:
        self.video_id, self.feature_size = video_id, feature_size
        arrays = _chosen(video_id, open_streams(located), streams=streams)
        headers = {name: array.header() for name, array in arrays.items()}
        arrays = {name: without_single_axes(array, headers[name]) for name, array in arrays.items()}
        shapes = {name: plain_shape(shape) for name, (shape, _) in headers.items()}
        self.parts = _parts(arrays, shapes, streams=streams, feature_size=feature_size)
        checked = [
            self._checked(part, shape, dtype, advice=fitting_flags(shapes, streams=streams))
            for part, shape, (_, dtype) in zip(self.parts, shapes.values(), headers.values(), strict=True)
        ]
        self.lengths = [length for length, _ in checked]  # of the parts, as stored
        self.shape = min(self.lengths), feature_size * len(streams)
        self.cut = max(self.lengths) - len(self)
        if self.cut > MOST_CUT:
            stored = ", ".join(f"{part.array} has {n}" for part, n in zip(self.parts, self.lengths, strict=True))
            raise DataError(
                Problem(
                    kind=Kind.LENGTHS,
                    where=f"video '{video_id}'",
                    what=f"streams of different length in snippets: {stored}",
                    fix=f"extract them again, {Kind.LENGTHS.advice}",
                    video=video_id,
                )
            )
        half = all(dtype == np.float16 for _, dtype in checked)
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
        """Read everything: each value once, checked and copied while it is in the processor's cache."""
        out = np.empty(self.shape, self.dtype)
        for part, length, target in self._targets(out):
            first = 0
            for rows in row_blocks(part.array):
                place = target[first : first + len(rows)]
                self._copy(part, rows[: len(place)], indices=np.arange(first, first + len(place)), target=place)
                first += len(rows)
            self._check_length(part, first, expected=length)
        return out

    def __getitem__(self, indices: Indices) -> NDArray[np.floating]:
        out = np.empty((len(indices), self.shape[1]), self.dtype)
        for part, length, target in self._targets(out):
            shape, dtype = part.array.header()
            self._checked(part, shape, dtype)
            self._check_length(part, shape[0], expected=length)
            self._copy(part, part.array.rows(indices), indices=indices, target=target)
        return out

    def _targets(self, out: NDArray[np.floating]) -> Iterator[tuple[Part, int, NDArray[np.floating]]]:
        """Every part with its stored length and its columns of `out`."""
        width = out.shape[1] // len(self.parts)
        for i, (part, length) in enumerate(zip(self.parts, self.lengths, strict=True)):
            yield part, length, out[:, i * width : (i + 1) * width]

    def _check_length(self, part: Part, length: int, *, expected: int) -> None:
        if length != expected:
            what = f"has {length} snippets now, had {expected}"
            raise self._error(part, kind=Kind.CHANGED, what=what, fix="don't change it during a run")

    def _copy(self, part: Part, rows: NDArray[Any], *, indices: Indices, target: NDArray[np.floating]) -> None:
        with np.errstate(over="ignore"):  # a large float64 is infinite in a float32 batch
            target[:] = rows[:, part.columns]
        finite = np.isfinite(target)
        if not finite.all():
            snippet = int(indices[np.flatnonzero(~finite.all(1))[0]])
            what = f"NaN or infinity in the features of video '{self.video_id}', first at snippet {snippet}"
            raise self._error(part, kind=Kind.NOT_FINITE, what=what, fix="extract them again or drop the video")

    def _checked(
        self,
        part: Part,
        shape: tuple[int, ...],
        stored: np.dtype[Any],
        *,
        advice: str = "see --feature_size and --modal",
    ) -> tuple[int, np.dtype[Any]]:
        """The number of snippets, and the type in this machine's byte order; either order is read."""
        dtype = stored.newbyteorder("=")
        if dtype not in (np.float16, np.float32, np.float64):
            raise DataError(wrong_type(part.array, dtype).of(self.video_id))
        if len(shape) != 2 or shape[1] != part.width or shape[0] < 0:
            what = f"shape {shape}, expected [snippets, {part.width}]"
            if len(shape) == 2 and shape[0] in (part.width, self.feature_size):
                what, advice = f"{what}{TRANSPOSED}", TRANSPOSE
            raise self._error(part, kind=Kind.SHAPE, what=what, fix=advice)
        if shape[0] == 0:
            fix = "extract it again or drop the video"
            raise self._error(part, kind=Kind.NO_SNIPPETS, what="no snippets", fix=fix)
        return shape[0], dtype

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


def looks_transposed(shapes: Iterable[tuple[int, ...]]) -> bool:
    """Whether arrays of these shapes, of one stream of several videos, seem to be [channels, snippets].

    Videos share their number of channels and differ in length. Videos of one length are told by what extractors give: hundreds
    of channels, a multiple of 64.
    """
    plain = {shape for shape in map(plain_shape, shapes) if len(shape) == 2}
    if len(plain) > 1:
        return len({rows for rows, _ in plain}) == 1
    return any(r % 64 == 0 and r >= 128 and r > c and c % 8 for r, c in plain)


def fitting_flags(shapes: Mapping[str, tuple[int, ...]], *, streams: tuple[str, ...]) -> str:
    """Say which flags would fit arrays of these shapes, by stream or "joint"."""
    if not all(len(shape) == 2 and shape[1] > 0 for shape in shapes.values()):
        return "save [snippets, channels], of one crop or their mean"
    widths = {name: shape[1] for name, shape in shapes.items()}
    if "joint" in widths:
        width = widths["joint"]
        alone = f"--modal {STREAMS[0]} " if len(streams) > 1 else ""
        both = f", or --feature_size {width // 2} if it is both side by side" if width % 2 == 0 else ""
        return f"{alone}--feature_size {width} would fit if it is one stream{both}"
    if len(set(widths.values())) == 1:
        return f"--feature_size {next(iter(widths.values()))} would fit"
    return " or ".join(f"--modal {name} --feature_size {width}" for name, width in widths.items()) + " would fit"


def _chosen(video_id: str, arrays: Mapping[str, StoredArray], *, streams: tuple[str, ...]) -> dict[str, StoredArray]:
    """The arrays with these streams: {"joint"}, or one for each. Raises DataError when one is missing."""
    if "joint" in arrays:
        return {"joint": arrays["joint"]}
    missing = [stream for stream in streams if stream not in arrays]
    if missing:
        present = ", ".join(str(array) for array in arrays.values())
        what, where = f"no stream '{missing[0]}' beside {present}", f"video '{video_id}'"
        fix = f"--modal {next(iter(arrays))} would fit"
        raise DataError(Problem(kind=Kind.NO_STREAM, where=where, what=what, fix=fix, video=video_id))
    return {stream: arrays[stream] for stream in streams}


def _parts(
    arrays: Mapping[str, StoredArray],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    streams: tuple[str, ...],
    feature_size: int,
) -> list[Part]:
    if "joint" not in arrays:
        return [Part(array=array, columns=slice(None), width=feature_size) for array in arrays.values()]
    joint, width = arrays["joint"], feature_size * len(STREAMS)
    if len(streams) > 1:
        return [Part(array=joint, columns=slice(None), width=width)]
    if shapes["joint"][1:] == (feature_size,):
        return [Part(array=joint, columns=slice(None), width=feature_size)]  # a file of one stream
    first = STREAMS.index(streams[0]) * feature_size
    return [Part(array=joint, columns=slice(first, first + feature_size), width=width)]
