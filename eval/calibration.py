"""Whether scores mean what they say: of those near 0.8, are eight in ten right?

curve = calibration(score, is_hit, bins=10)                   # detections at one tIoU
curve = calibration(class_scores.ravel(), labels.ravel())     # a video's classes
curve.expected_error                                          # Guo et al., ICML 2017
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.segments import Floats, Indices

BINS = 10


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Scores in bins of equal width; a bin includes its lower edge, the last one both."""

    edges: Floats  # [B+1]
    count: Indices  # [B]
    mean_score: Floats  # [B] NaN in an empty bin
    share_right: Floats  # [B] NaN in an empty bin

    @property
    def expected_error(self) -> float:
        """The mean over all scores of how far their bin's mean score is from its share of right ones; NaN without scores."""
        filled = self.count > 0
        gap = np.abs(self.mean_score - self.share_right)[filled]
        return float((gap * (self.count[filled] / self.count.sum())).sum()) if filled.any() else float("nan")


def calibration(score: NDArray[np.floating], is_right: NDArray[np.bool_], *, bins: int = BINS) -> Calibration:
    """Scores [N] and whether each is right [N]. The bins span 0 .. 1, or as far beyond as there are scores."""
    score = score.astype(np.float64)
    low, high, at = min(0.0, score.min(initial=0.0)), max(1.0, score.max(initial=1.0)), np.linspace(0, 1, bins + 1)
    edges = low * (1 - at) + high * at  # high - low might overflow, and so might the sum of a bin's scores
    which = np.clip(np.searchsorted(edges, score, side="right") - 1, 0, bins - 1)
    count = np.bincount(which, minlength=bins)
    weight = 1 / np.maximum(count, 1)[which]  # in the mean of its bin
    mean_score, share_right = (
        np.where(count > 0, np.bincount(which, weights=value * weight, minlength=bins), np.nan)
        for value in (score, is_right)
    )
    return Calibration(edges=edges, count=count, mean_score=mean_score, share_right=share_right)
