"""Which instance each detection finds: in descending score, each takes its best free one of the same video and class.

    instance = match_detections(ground_truth, detections, tious=(0.1, 0.2))         # [K,N]
    is_hit = instance != NO_INSTANCE

As ActivityNet's official evaluator does (docs/method.md, section 6). Others let a detection take the first free instance, or
the instances choose (`match_instances`): eval/protocols.py says whose rule is which.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from utils.segments import Floats, Indices, Segments, temporal_iou

NO_INSTANCE = -1  # in the place of an instance's position


def match_detections(
    ground_truth: Segments, detections: Segments, *, tious: Sequence[float], first: bool = False
) -> Indices:
    """Match at every tIoU for itself -> [K,N]: the position of each detection's instance, or NO_INSTANCE.

    Equal scores take turns in the given order. With `first`, each takes the first free instance in the given order that
    overlaps enough, whether or not another overlaps more.
    """
    turn, place = _turns(detections), _places(ground_truth)
    pairs = overlapping_pairs if first else _pairs_by_overlap
    detection, truth, overlap = pairs(ground_truth.take(place), detections.take(turn), min(tious))
    level, pair = np.nonzero(overlap >= np.asarray(tious)[:, None])  # [K,pairs]
    holder = _match(
        level * len(detections) + detection[pair],
        level * len(ground_truth) + truth[pair],
        len(tious) * len(detections),
        len(tious) * len(ground_truth),
    ).reshape(len(tious), len(ground_truth))
    found = np.full((len(tious), len(detections)), NO_INSTANCE)
    k, instance = np.nonzero(holder < len(tious) * len(detections))
    found[k, turn[holder[k, instance] % max(len(detections), 1)]] = place[instance]
    return found


def match_instances(ground_truth: Segments, detections: Segments, *, tious: Sequence[float]) -> Indices:
    """Match the other way round -> [K,N] as above: the instances choose, in the given order, whatever the scores are.

    Each takes the free detection of the largest tIoU if that is above the threshold, of equal ones the best score.
    """
    turn, place = _turns(detections), _places(ground_truth)
    detection, truth, overlap = overlapping_pairs(ground_truth.take(place), detections.take(turn), min(tious))
    preferred = np.lexsort((detection, -overlap, truth))
    detection, truth, overlap = detection[preferred], truth[preferred], overlap[preferred]
    level, pair = np.nonzero(overlap > np.asarray(tious)[:, None])  # [K,pairs]
    nobody = len(tious) * len(ground_truth)
    holder = _match(
        level * len(ground_truth) + truth[pair],
        level * len(detections) + detection[pair],
        nobody,
        len(tious) * len(detections),
    ).reshape(len(tious), len(detections))
    found = np.full((len(tious), len(detections)), NO_INSTANCE)
    k, taken = np.nonzero(holder < nobody)
    found[k, turn[taken]] = place[holder[k, taken] % max(len(ground_truth), 1)]
    return found


def overlapping_pairs(ground_truth: Segments, detections: Segments, min_tiou: float) -> tuple[Indices, Indices, Floats]:
    """Pairs of a detection and a ground truth of the same video and class with tIoU >= min_tiou -> (detection, truth, tIoU).

    Sorted by detection, then ground truth, which must be sorted by class, then video.
    """
    detection, truth, overlap = _all_pairs(ground_truth, detections)
    near = np.flatnonzero(overlap >= min_tiou)
    return detection[near], truth[near], overlap[near]


def equal_pairs(key: Indices, sorted_key: Indices) -> tuple[Indices, Indices]:
    """Pairs of positions in `key` and in `sorted_key`, which ascends, where both have the same number; sorted."""
    first = np.searchsorted(sorted_key, key, side="left")
    count = np.searchsorted(sorted_key, key, side="right") - first
    one = np.repeat(np.arange(len(key)), count)
    return one, np.repeat(first, count) + np.arange(len(one)) - np.repeat(np.cumsum(count) - count, count)


def _turns(detections: Segments) -> Indices:
    """The order in which detections have their turn: by class, best score first."""
    return np.lexsort((-detections.score, detections.label))


def _places(ground_truth: Segments) -> Indices:
    """The order by class, then video."""
    return np.lexsort((ground_truth.video, ground_truth.label))


def _pairs_by_overlap(ground_truth: Segments, detections: Segments, min_tiou: float) -> tuple[Indices, Indices, Floats]:
    """The overlapping pairs, sorted by detection, the largest tIoU first."""
    detection, truth, overlap = _all_pairs(ground_truth, detections)
    near = np.flatnonzero(overlap >= min_tiou)
    near = near[np.lexsort((-overlap[near], detection[near]))]
    _order_ties(near, detection, overlap)
    return detection[near], truth[near], overlap[near]


def _all_pairs(ground_truth: Segments, detections: Segments) -> tuple[Indices, Indices, Floats]:
    """All pairs of the same video and class, and their tIoU, sorted; ground truth must be sorted by class, then video."""
    videos = 1 + max(ground_truth.video.max(initial=0), detections.video.max(initial=0))
    detection, truth = equal_pairs(
        detections.label * videos + detections.video, ground_truth.label * videos + ground_truth.video
    )
    start, end = detections.start[detection], detections.end[detection]
    truth_start, truth_end = ground_truth.start[truth], ground_truth.end[truth]
    # Most pairs do not overlap and are not worth a division.
    meet = np.flatnonzero((start < truth_end) & (truth_start < end))
    overlap = np.zeros(len(detection))
    overlap[meet] = temporal_iou(start[meet], end[meet], truth_start[meet], truth_end[meet])
    return detection, truth, overlap


def _order_ties(near: NDArray[np.int64], detection: NDArray[np.int64], overlap: NDArray[np.float64]) -> None:
    """Reorder in place the pairs of detections that overlap several ground truths by exactly the same tIoU.

    The field's evaluators leave this order to numpy's argsort, reversed, and published figures depend on it; so these few
    detections (69 of 31,587 in the tests' real result file) are sorted that way, one by one. numpy's order of equal values
    depends on the processor's vector instructions: that file's mAP at tIoU 0.1 moves by 1.4e-4 (docs/evaluation.md).
    """
    near_detection = detection[near]
    same = (np.diff(near_detection) == 0) & (np.diff(overlap[near]) == 0)
    for tied in np.unique(near_detection[1:][same]):
        candidates = slice(*np.searchsorted(detection, [tied, tied + 1]))
        first, stop = np.searchsorted(near_detection, [tied, tied + 1])
        order = np.argsort(overlap[candidates])[::-1]
        near[first:stop] = candidates.start + order[: stop - first]


def _match(detection: NDArray[np.int64], truth: NDArray[np.int64], num_detections: int, num_truth: int) -> Indices:
    """Return the detection that each ground truth [num_truth] gets, if each in turn takes the best one still free.

    It is num_detections where none does.

    Pairs are sorted by detection, the preferred ground truth first. Taking turns is slow, so all ask at once: every ground
    truth keeps the earliest detection that has asked for it, and a refused detection asks for its next. Since all ground truths
    agree on who comes first, this deferred acceptance has the same result as taking turns: there is one stable matching.
    """
    nobody = num_detections
    holder = np.full(num_truth, nobody)
    count = np.bincount(detection, minlength=num_detections)
    stop = np.cumsum(count)
    pointer = stop - count  # each detection's next pair
    asking = np.flatnonzero(count)
    while len(asking):
        wanted = truth[pointer[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, asking)
        after = holder[wanted]
        again = np.zeros(num_detections + 1, bool)
        again[asking[after != asking]] = True  # refused
        again[before[after != before]] = True  # displaced
        asking = np.flatnonzero(again[:nobody])
        pointer[asking] += 1
        asking = asking[pointer[asking] < stop[asking]]
    return holder
