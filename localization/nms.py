"""Non-maximum suppression of temporal proposals, hard and soft (docs/method.md, section 5)."""

import numpy as np

from options import LocalizationOptions
from utils.segments import Floats, Indices, temporal_iou


def nms(
    group: Indices, start: Floats, end: Floats, score: Floats, *, options: LocalizationOptions
) -> tuple[Indices, Floats]:
    """Suppress proposals [N], in groups of one class of one video, times in seconds -> (kept positions, their scores).

    In each group the best proposal removes all that overlap it by more than the threshold, then the best of the rest does, and
    so on. Hard: removed proposals are dropped. Soft: they stay, with their scores decayed once, by their remover. The result is
    ordered by group, best first, with equal scores in their given order. All groups are processed together, so that hundreds of
    them cost little more than one.
    """
    left = np.lexsort((-score, group))
    group_left, start_left, end_left = group[left], start[left], end[left]
    final = score.copy()
    kept, removed = [left[:0]], [left[:0]]
    while len(left):
        is_best = np.append(True, group_left[1:] != group_left[:-1])
        best = np.flatnonzero(is_best)
        sizes = np.diff(best, append=len(left))
        overlap = temporal_iou(
            start_left,
            end_left,
            np.repeat(start_left[best], sizes),
            np.repeat(end_left[best], sizes),
            offset=options.nms_offset,
        )
        kept.append(left[best])
        remove = (overlap > options.nms_thresh) & ~is_best
        if options.soft_nms:
            decayed = left[remove]
            final[decayed] *= np.exp(-(overlap[remove] ** 2) / options.nms_alpha)
            removed.append(decayed)
        stay = ~(remove | is_best)
        left, group_left, start_left, end_left = left[stay], group_left[stay], start_left[stay], end_left[stay]
    positions = np.concatenate(kept + removed)
    ranked = positions[np.lexsort((-final[positions], group[positions]))]
    return ranked, final[ranked]
