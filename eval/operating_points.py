"""Precision, recall and F1 of the detections that score at least so much: where to put the threshold of an application.

    points = operating_points(is_hit, score, count=len(ground_truth))
    best = points.best                                            # of the largest F1: its threshold, precision, recall

Matching goes by descending score, so what a threshold removes never held an instance that a kept detection could have had: hits
at one threshold are the hits of all, as far as they are kept.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.segments import Floats, Indices


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    threshold: float  # kept are detections of this score or more
    detections: int  # kept
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class OperatingPoints:
    """One point a distinct score, in descending order."""

    threshold: Floats  # [M]
    detections: Indices  # [M] kept
    precision: Floats  # [M]
    recall: Floats  # [M]
    f1: Floats  # [M]

    @property
    def best(self) -> OperatingPoint | None:
        """The point of the largest F1, of equals the one that keeps fewest detections; None without detections."""
        if not len(self.f1):
            return None
        i = int(np.argmax(self.f1))
        return OperatingPoint(
            threshold=float(self.threshold[i]),
            detections=int(self.detections[i]),
            precision=float(self.precision[i]),
            recall=float(self.recall[i]),
            f1=float(self.f1[i]),
        )


def operating_points(is_hit: NDArray[np.bool_], score: Floats, *, count: int) -> OperatingPoints:
    """N detections in any order, `count` > 0 instances being there to find. F1 = 2 hits / (detections + instances)."""
    order = np.argsort(-score, kind="stable")
    hits, descending = np.cumsum(is_hit[order]), score[order]
    last = np.flatnonzero(np.diff(descending, append=-np.inf))  # of each run of equal scores
    kept = last + 1
    return OperatingPoints(
        threshold=descending[last],
        detections=kept,
        precision=hits[last] / kept,
        recall=hits[last] / count,
        f1=2 * hits[last] / (kept + count),
    )
