"""The detections a user wants to see: --min_score and --top, applied after NMS."""

import numpy as np

from options import LocalizationOptions
from utils.segments import Segments


def select_detections(detections: Segments, options: LocalizationOptions) -> Segments:
    """Keep the detections with a score of at least `min_score`, of these the best `top` of each video, in the given order.

    Of equal scores the earlier detection counts as better.
    """
    if options.min_score is not None:
        detections = detections.take(np.flatnonzero(detections.score >= options.min_score))
    if options.top is None:
        return detections
    best_first = np.lexsort((-detections.score, detections.video))
    video = detections.video[best_first]
    rank = np.arange(len(video)) - np.searchsorted(video, video)  # within its video
    return detections.take(np.sort(best_first[rank < options.top]))
