"""Average recall: how many instances some detection covers, if only the N best of each video may count, whatever their class.

    recall = average_recall(ground_truth, detections)             # tIoU 0.5:0.95:0.05, up to 100 a video
    recall.at(10), recall.area                                    # AR@10, and the area under AR against N over N's span

The measure of temporal proposals (ActivityNet's challenge). One detection may cover several instances. ActivityNet's program
keeps a share of every video's proposals, so that N is their mean over videos; here it is the N best of each, as papers mean it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.matching import overlapping_pairs
from utils.errors import InputError
from utils.ranges import parse_grid
from utils.segments import Floats, Indices, Segments

RECALL_GRID = "0.5:0.95:0.05"
RECALL_TIOUS = parse_grid(RECALL_GRID)
MOST_PER_VIDEO = 100


@dataclass(frozen=True, kw_only=True)
class AverageRecall:
    tious: tuple[float, ...]  # [K]
    recall: Floats  # [K,M] with the 1, 2 .. M best of every video

    @property
    def average(self) -> Floats:
        """AR@1 .. AR@M [M]: recall averaged over the tIoUs."""
        return np.asarray(self.recall.mean(0))

    def at(self, count: int) -> float:
        """AR@count."""
        return float(self.average[count - 1])

    @property
    def area(self) -> float:
        """The area under AR@N for N from 1 to M, over M: 100 times this is ActivityNet's score of proposals."""
        return float(np.trapezoid(self.average) / self.recall.shape[1])


def average_recall(
    ground_truth: Segments, detections: Segments, *, tious: Sequence[float] = RECALL_TIOUS, most: int = MOST_PER_VIDEO
) -> AverageRecall:
    """Recall with up to `most` detections a video; equal scores keep the given order. InputError without ground truth."""
    if len(ground_truth) == 0:
        raise InputError("no ground-truth segments to evaluate against")
    rank = _rank_in_video(detections)
    kept = np.flatnonzero(rank < most)
    ranked, truth = _one_class(detections.take(kept)), _one_class(ground_truth)
    truth = truth.take(np.argsort(truth.video, kind="stable"))
    detection, instance, overlap = overlapping_pairs(truth, ranked, min(tious))
    first = np.full((len(tious), len(truth)), most)  # rank of the best detection that covers the instance
    for row, tiou in zip(first, tious, strict=True):
        near = overlap >= tiou
        np.minimum.at(row, instance[near], rank[kept][detection[near]])
    found = np.stack([np.bincount(row, minlength=most + 1)[:most] for row in first])
    return AverageRecall(tious=tuple(tious), recall=np.cumsum(found, axis=1) / len(truth))


def _rank_in_video(detections: Segments) -> Indices:
    """Of each detection, how many of its video come before it [N]."""
    order = np.lexsort((-detections.score, detections.video))
    video = detections.video[order]
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(video, video)
    return rank


def _one_class(segments: Segments) -> Segments:
    return replace(segments, label=np.zeros_like(segments.label))
