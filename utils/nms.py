"""Non-maximum suppression of temporal proposals, hard and soft in one place (docs/method.md, section 5)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from utils.segments import temporal_iou


@dataclass(frozen=True)
class NmsConfig:
    soft: bool = True
    thresh: float = 0.4  # tIoU above which a better proposal removes this one
    alpha: float = 0.3  # width of the soft decay exp(-tIoU^2 / alpha)
    offset: float = 1.0  # seconds added to every length, as the published recipe does


def nms(
    start: NDArray[np.float64], end: NDArray[np.float64], score: NDArray[np.float64], config: NmsConfig
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Proposals of one class of one video, [N] each, times in seconds -> (kept positions, their scores).

    The best proposal removes all that overlap it by more than the threshold, then the best of the rest, and so on. Hard: what
    is removed is gone. Soft: it stays, its score decayed once, by its remover. Best first; equal scores in their given order.
    """
    order = np.argsort(-score, kind="stable")
    kept: list[NDArray[np.int64]] = []
    scores: list[NDArray[np.float64]] = []
    removed: list[NDArray[np.int64]] = []
    removed_scores: list[NDArray[np.float64]] = []
    while len(order):
        best, rest = order[:1], order[1:]
        kept.append(best)
        scores.append(score[best])
        overlap = temporal_iou(start[rest], end[rest], start[best], end[best], offset=config.offset)
        remove = overlap > config.thresh
        if config.soft:
            removed.append(rest[remove])
            removed_scores.append(score[rest[remove]] * np.exp(-(overlap[remove] ** 2) / config.alpha))
        order = rest[~remove]
    positions = np.concatenate([np.zeros(0, np.int64), *kept, *removed])
    final = np.concatenate([np.zeros(0), *scores, *removed_scores])
    ranked = np.argsort(-final, kind="stable")
    return positions[ranked], final[ranked]
