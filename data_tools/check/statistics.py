"""Statistics of a video's features, stream by stream, from one pass over them.

    measured = measure_video(files, split="train", streams=("rgb", "flow"))      # FeatureFiles -> MeasuredVideo
    pooled([video.streams["rgb"] for video in videos])                           # over an entire split

Values are taken as float32, as training sees them. Of each video, a few numbers and its mean per channel are kept.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formats.feature_files import FeatureFiles


@dataclass(frozen=True, kw_only=True)
class StreamStatistics:
    """Statistics of one stream [L,D]. Values that are not finite count as zeros."""

    source: str  # the file, for messages
    dtype: np.dtype[Any]  # as stored
    num_snippets: int  # L
    not_finite: int  # values that are NaN or infinite
    first_not_finite: int  # the first snippet with one; -1 for none
    zero_snippets: int  # snippets whose values are all 0
    zeros: float  # share of values that are 0
    mean: float
    mean_square: float
    profile: NDArray[np.float32]  # [D] mean of each channel over the snippets

    @property
    def rms(self) -> float:
        return math.sqrt(self.mean_square)

    @property
    def empty(self) -> bool:
        """Whether all values are zeros."""
        return self.zero_snippets == self.num_snippets


@dataclass(frozen=True, kw_only=True)
class MeasuredVideo:
    video_id: str
    split: str
    streams: dict[str, StreamStatistics]
    cut: int = 0  # snippets that one stream has more than the other, which are left out

    @property
    def num_snippets(self) -> int:
        return next(iter(self.streams.values())).num_snippets

    @property
    def comparable(self) -> bool:
        """Whether its statistics are meaningful: every value is finite, and no stream is (nearly) all zeros."""
        return all(stream.mean_square > 0 and not stream.not_finite for stream in self.streams.values())


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """Statistics over all values of a stream's videos; NaN if there are none."""

    mean: float
    std: float
    zeros: float  # share


def measure_video(files: FeatureFiles, *, split: str, streams: tuple[str, ...]) -> MeasuredVideo:
    """Measure a video, reading every array once. Raises InputError for a damaged one."""
    width = files.feature_size
    # What is kept is allocated first: between large arrays that are freed, it would leave gaps too small for later ones.
    profiles = np.empty((len(streams), width), np.float32)
    measured: list[StreamStatistics] = []
    for part in files.parts:
        stored = part.array.rows(slice(None))[: len(files), part.columns]
        for first in range(0, stored.shape[1], width):
            source = f"{part.array} ({streams[len(measured)]})" if part.width > width else str(part.array)
            measured.append(measure(stored[:, first : first + width], source, profile=profiles[len(measured)]))
        del stored
    return MeasuredVideo(
        video_id=files.video_id, split=split, streams=dict(zip(streams, measured, strict=True)), cut=files.cut
    )


def measure(
    stored: NDArray[np.floating], source: str, *, profile: NDArray[np.float32] | None = None
) -> StreamStatistics:
    """Measure one stream as stored [L,D]; its profile [D] is written to `profile` if that is given."""
    not_finite, first = 0, -1
    # A large float64 is infinite in float32, and so is a large square.
    with np.errstate(over="ignore", invalid="ignore"):
        values: NDArray[np.floating] = stored.astype(np.float32, copy=False)
        squares = np.vecdot(values, values)
    if not math.isfinite(squares.sum(dtype=np.float64)):  # only then look at every value
        finite = np.isfinite(values)
        not_finite = values.size - int(np.count_nonzero(finite))
        first = int(np.argmin(finite.all(1))) if not_finite else -1
        values = np.where(finite, values, 0).astype(np.float64)
        squares = np.vecdot(values, values)
    quiet = stored[squares == 0]  # very small values have a square of 0 too; NaN is not 0
    profile = np.empty(values.shape[1], np.float32) if profile is None else profile
    profile[:] = values.mean(0)
    return StreamStatistics(
        source=source,
        dtype=stored.dtype,
        num_snippets=len(values),
        not_finite=not_finite,
        first_not_finite=first,
        zero_snippets=len(quiet) - int(np.count_nonzero(quiet.any(1))),
        zeros=(int(np.count_nonzero(values == 0)) - not_finite) / values.size,
        mean=float(profile.mean(dtype=np.float64)),
        mean_square=float(squares.sum(dtype=np.float64)) / values.size,
        profile=profile,
    )


def pooled(streams: Iterable[StreamStatistics]) -> Pooled:
    """Statistics over all values, without videos that have values that are not finite."""
    known = [stream for stream in streams if not stream.not_finite]
    snippets = sum(stream.num_snippets for stream in known)
    if not snippets:
        return Pooled(mean=math.nan, std=math.nan, zeros=math.nan)

    def average(name: str) -> float:
        return sum(stream.num_snippets * getattr(stream, name) for stream in known) / snippets

    mean = average("mean")
    std = math.sqrt(max(0.0, average("mean_square") - mean**2))
    return Pooled(mean=mean, std=std, zeros=average("zeros"))
