"""Annotations from any file: which actions a video shows and, where somebody marked it, when.

VideoAnnotation(subset="test", instances=(Instance(label="Dive", start=1.5, end=4.0),), duration=31.2, fps=25.0)
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from formats.problems import DataError, Kind, Problem
from utils.segments import Segments

MAX_SECONDS = 1e9  # 30 years: a larger number is no time, and squares of it would not be exact


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One action instance; times in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class VideoAnnotation:
    subset: str  # as the ground truth calls it
    instances: tuple[Instance, ...] = ()
    weak_labels: frozenset[str] = frozenset()  # labels of the video, given separately from segments
    duration: float | None = None  # seconds
    fps: float | None = None  # frames per second

    @property
    def labels(self) -> frozenset[str]:
        return self.weak_labels | {instance.label for instance in self.instances}


def labels_of(annotations: Mapping[str, VideoAnnotation], videos: Iterable[str]) -> set[str]:
    """Every label of these videos, as far as they have annotations."""
    return {label for video in videos if video in annotations for label in annotations[video].labels}


def class_names(annotations: Mapping[str, VideoAnnotation]) -> tuple[str, ...]:
    """Every label that occurs, sorted: positions are the class indices."""
    return tuple(sorted(labels_of(annotations, annotations)))


def ground_truth_segments(
    annotations: Mapping[str, VideoAnnotation], videos: tuple[str, ...], classes: tuple[str, ...]
) -> Segments:
    """The instances of `videos`, coded by position in `videos` and `classes`."""
    label_index = {name: i for i, name in enumerate(classes)}
    return Segments.from_rows(
        [
            (v, label_index[instance.label], instance.start, instance.end, 1.0)
            for v, video in enumerate(videos)
            for instance in annotations[video].instances
        ]
    )


def parse_segment(segment: Any, *, where: str, ordered: bool = True) -> tuple[float, float]:
    """Parse [start, end] in seconds, numbers or strings. Raises DataError for anything else, and for numbers beyond all times.

    If `ordered`, also for an end that is not after the start.
    """
    try:
        if not isinstance(segment, list) or any(isinstance(value, bool) for value in segment):
            raise ValueError
        start, end = (float(value) for value in segment)
    except (TypeError, ValueError, OverflowError):
        what = f"segment {str(segment)[:80]} is not [start, end] in seconds"
        raise DataError(_segment_problem(Kind.INVALID_SEGMENT, where, what)) from None
    if not (math.isfinite(start) and math.isfinite(end)):
        raise DataError(_segment_problem(Kind.INVALID_SEGMENT, where, f"segment {str(segment)[:80]} is not finite"))
    if not (abs(start) < MAX_SECONDS and abs(end) < MAX_SECONDS):
        what = f"segment {str(segment)[:80]} is not a time in seconds"
        raise DataError(_segment_problem(Kind.INVALID_SEGMENT, where, what))
    if ordered and end <= start:
        what = f"segment {str(segment)[:80]} ends at or before its start"
        raise DataError(_segment_problem(Kind.EMPTY_SEGMENT, where, what))
    return start, end


def _segment_problem(kind: Kind, where: str, what: str) -> Problem:
    return Problem(kind=kind, where=where, what=what, fix="fix or remove it")


def parse_positive(value: Any, *, where: str, name: str) -> float | None:
    """Parse a duration or a frame rate, called `name` in messages; None stays None.

    Raises DataError for anything but a number above 0 of a sensible size.
    """
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not (1e-6 < number < MAX_SECONDS):
        what = f"{name} {str(value)[:40]} is not a number above 0"
        raise DataError(Problem(kind=Kind.INVALID_NUMBER, where=where, what=what, fix="fix or remove it"))
    return number
