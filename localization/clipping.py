"""Detections end where their video ends: runs that start before 0 or continue past the stated duration are cut."""

import numpy as np

from utils.segments import Segments


def clip_to_video(detections: Segments, durations: list[float | None]) -> Segments:
    """Cut detections at 0 and at their video's duration, seconds; None: not known, not cut there.

    The order stays. A detection that lies wholly outside of its video is dropped.
    """
    known = np.array([np.inf if duration is None else duration for duration in durations], np.float64)
    start = np.maximum(detections.start, 0.0)
    end = np.minimum(detections.end, known[detections.video])
    clipped = Segments(detections.video, detections.label, start, end, detections.score)
    return clipped.take(np.flatnonzero(start < end))
