"""Findings about time: durations that contradict the lengths of the features.

grid_warning(videos, grid)                                          # a warning that all seconds are wrong, or None
for finding in duration_findings(videos, grid=SnippetGrid(frames=16, stride=16)): ...
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_tools.check.findings import Finding, summarize
from formats.annotations import VideoAnnotation
from utils.segments import Floats
from utils.snippet_grid import SnippetGrid

# Snippets between a duration and its features; more if as many overlap, since some extractors add frames at the ends, of which
# whole snippets are made.
LENGTH_TOLERANCE = 2.0
RATE_TOLERANCE = 0.05  # between all durations together and what the features' lengths and the frame rate make of them
FEWEST_FOR_A_RATE, FEWEST_FOR_A_LINE = 3, 5  # videos
FITS = 0.9  # share of the videos that another frame rate or stride must fit to be suggested


@dataclass(frozen=True, kw_only=True)
class TimedVideo:
    """A video in a split, with features."""

    video_id: str
    annotation: VideoAnnotation
    num_snippets: int
    fps: float


def grid_warning(videos: Sequence[TimedVideo], grid: SnippetGrid) -> str | None:
    """Say why the seconds of all detections would be wrong, if the known durations contradict the features' lengths.

    Either most of them do, or all together: of short videos none need be far off for a frame rate to be wrong.
    """
    known = [video for video in videos if video.annotation.duration is not None]
    wrong = [video for video in known if not _fits(video, grid, video.fps)]
    if 2 * len(wrong) > len(known):
        return f"the durations of {len(wrong):,} of {len(known):,} videos contradict their features: {_advice(known, grid)}"
    if _wrong_together(known, grid):
        return f"{_together(known, grid)}: {_advice(known, grid)}"
    return None


def duration_findings(videos: Sequence[TimedVideo], *, grid: SnippetGrid) -> Iterator[Finding]:
    known = [video for video in videos if video.annotation.duration is not None]
    wrong = [video for video in known if not _fits(video, grid, video.fps)]
    yield from summarize(
        "warning",
        f"durations and features that differ by more than {_tolerance(grid):g} snippets",
        [
            f"video '{video.video_id}': {video.annotation.duration:g} s at {video.fps:g} frames per second are "
            f"{grid.snippets(_duration(video), video.fps):.1f} snippets, its features have {video.num_snippets}"
            for video in wrong
        ],
        advice=_advice(known, grid)
        if 2 * len(wrong) > len(known)
        else "features or durations belong to another version of the video: times would be wrong",
    )
    if 2 * len(wrong) <= len(known) and _wrong_together(known, grid):
        yield from summarize(
            "warning",
            f"durations and features that differ by more than {100 * RATE_TOLERANCE:g} % over the whole set",
            [_together(known, grid)],
            advice=_advice(known, grid),
        )


def _wrong_together(videos: Sequence[TimedVideo], grid: SnippetGrid) -> bool:
    """Whether all durations together contradict all lengths, by more than the last part of each video explains.

    Extractors round a video's length in snippets down, up or to the nearest, and some drop a last snippet. That is the same for
    short and long videos, while a wrong frame rate grows with the length.
    """
    if len(videos) < FEWEST_FOR_A_RATE:
        return False
    expected = np.array([max(grid.snippets(_duration(video), video.fps), 0.0) for video in videos])
    found = np.array([video.num_snippets for video in videos], np.float64)
    if abs(expected.sum() / found.sum() - 1) <= RATE_TOLERANCE:
        return False
    rounded = any(abs(expected.sum() / (found + part).sum() - 1) <= RATE_TOLERANCE for part in (0.5, -0.5))
    if rounded and _share(iter(np.abs(expected - found) <= 1)) >= FITS:
        return False
    return not _grows_alike(found, expected)


def _grows_alike(found: Floats, expected: Floats) -> bool:
    """Whether a line through the videos shows that each found snippet is an expected one, whatever is lost of every video."""
    spread = float(((found - found.mean()) ** 2).sum())
    if len(found) < FEWEST_FOR_A_LINE or spread == 0:
        return False
    slope = float(((found - found.mean()) * (expected - expected.mean())).sum()) / spread
    rest = expected - expected.mean() - slope * (found - found.mean())
    error = math.sqrt(float((rest**2).sum()) / (len(found) - 2) / spread)
    return abs(slope - 1) + 2 * error <= RATE_TOLERANCE


def _together(videos: Sequence[TimedVideo], grid: SnippetGrid) -> str:
    stated, implied = sum(map(_duration, videos)), sum(grid.end(video.num_snippets, video.fps) for video in videos)
    return f"the {len(videos):,} videos with a duration last {stated:.1f} s, their features {implied:.1f} s"


def _advice(videos: Sequence[TimedVideo], grid: SnippetGrid) -> str:
    """Advice when most videos are wrong: the frame rate or stride that would fit them."""
    if len(videos) > 1 and len({video.num_snippets for video in videos}) == 1:
        return "all features are equally long: they were rescaled, and snippets no longer have the same duration"
    suggestions = []
    rate = np.median([((v.num_snippets - 1) * grid.stride + grid.frames) / _duration(v) for v in videos])
    for fps in (round(rate), round(float(rate), 2)):
        if fps > 0 and _share(_fits(video, grid, fps) for video in videos) >= FITS:
            suggestions.append(f"--fps {fps:g}")
            break
    longer = [video for video in videos if video.num_snippets > 1]
    strides = [(_duration(v) * v.fps - grid.frames) / (v.num_snippets - 1) for v in longer]
    stride = round(float(np.median(strides))) if longer else 0
    if stride > 0 and _share(_fits(v, SnippetGrid(frames=grid.frames, stride=stride), v.fps) for v in videos) >= FITS:
        suggestions.append(f"--snippet_stride {stride} (or --snippet_frames {stride}, if snippets do not overlap)")
    if suggestions:
        return f"{' or '.join(suggestions)} would fit; give the values that the features were extracted with"
    return "no single frame rate or stride fits: check --fps, --snippet_frames, --snippet_stride and the durations"


def _fits(video: TimedVideo, grid: SnippetGrid, fps: float) -> bool:
    return abs(grid.snippets(_duration(video), fps) - video.num_snippets) <= _tolerance(grid)


def _tolerance(grid: SnippetGrid) -> float:
    return max(LENGTH_TOLERANCE, grid.frames / grid.stride)


def _duration(video: TimedVideo) -> float:
    assert video.annotation.duration is not None
    return video.annotation.duration


def _share(truths: Iterator[bool]) -> float:
    return float(np.mean(list(truths)))
