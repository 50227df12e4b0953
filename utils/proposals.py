"""From a class's combined sequence to scored proposals: upsample, threshold, contrast (docs/method.md, section 5)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ProposalConfig:
    scale: int = 24  # points a snippet
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    outer_margin: float = 0.2  # of a proposal's length, on either side
    gamma: float = 0.2  # weight of the class score
    snippet_frames: int = 16
    fps: float = 25.0


@dataclass(frozen=True)
class Proposals:
    """N proposals of one video; `column` is the position among the sequences given."""

    column: NDArray[np.int64]  # [N]
    start: NDArray[np.float64]  # [N] seconds
    end: NDArray[np.float64]  # [N] seconds
    score: NDArray[np.float64]  # [N]


def upsample(sequences: NDArray[np.floating], scale: int) -> NDArray[np.float64]:
    """[T,P] -> [P, scale*T]: linear between snippets, at i/scale; beyond the last snippet its slope goes on.

    Sequences are float32, as the network gives them, and so are the differences of neighbours, as in the published recipe; the
    rest is float64. The end is extrapolated from the last snippet but one, likewise. (Either choice moves scores by 1e-8.)
    """
    values = sequences.T.astype(np.float32)
    columns, t = values.shape
    if t == 1:
        return np.repeat(values.astype(np.float64), scale, axis=1)
    slope = np.diff(values, axis=1)[:, :, None]  # [P,T-1,1]
    start = values[:, :-1, None].astype(np.float64)
    steps = np.arange(1, 2 * scale) / scale
    between = (start + slope * steps[:scale]).reshape(columns, (t - 1) * scale)  # each snippet's points end at the next
    beyond = (start + slope * steps[scale:])[:, -1]
    return np.concatenate([values[:, :1].astype(np.float64), between, beyond], axis=1)


def runs_above(points: NDArray[np.float64], thresholds: tuple[float, ...]) -> tuple[NDArray[np.int64], ...]:
    """Every maximal run of points [P,N] at or above each threshold -> (row, first, last), last inclusive.

    Ordered by row, threshold, time. As in the published recipe, a threshold that point 0 alone reaches yields none.
    """
    above = points[:, None, :] >= np.asarray(thresholds)[:, None]  # [P,K,N]
    above[..., 0] &= above[..., 1:].any(2)
    rows, levels, count = above.shape
    flat = np.zeros((rows * levels, count + 2), np.int8)
    flat[:, 1:-1] = above.reshape(rows * levels, count)
    edges = np.diff(flat, axis=1)
    line, first = np.nonzero(edges == 1)
    _, stop = np.nonzero(edges == -1)
    return line // levels, first, stop - 1


def outer_inner_contrast(
    points: NDArray[np.float64],
    row: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    margin: float,
) -> NDArray[np.float64]:
    """Mean of `points` [P,N] inside each run minus the mean just outside it, within `margin` of its length [N]."""
    total = np.zeros((points.shape[0], points.shape[1] + 1))
    np.cumsum(points, axis=1, out=total[:, 1:])
    length = last - first + 1
    left = np.maximum(0, (first - margin * length).astype(np.int64))
    right = np.minimum(points.shape[1] - 1, (last + margin * length).astype(np.int64))
    inner = (total[row, last + 1] - total[row, first]) / length
    outer_sum = (total[row, first] - total[row, left]) + (total[row, right + 1] - total[row, last + 1])
    outer_count = (first - left) + (right - last)
    return inner - outer_sum / np.maximum(outer_count, 1)


def generate_proposals(
    sequences: NDArray[np.floating], class_scores: NDArray[np.floating], num_snippets: int, config: ProposalConfig
) -> Proposals:
    """Proposals of one video from the sequences [T,P] of its P predicted classes and their scores [P].

    `num_snippets` is the video's own length before resampling; it sets the seconds.
    """
    points = upsample(sequences, config.scale)
    row, first, last = runs_above(points, config.thresholds)
    contrast = outer_inner_contrast(points, row, first, last, config.outer_margin)
    seconds = config.snippet_frames * num_snippets / (points.shape[1] * config.fps)  # one point
    # The class scores are the network's float32, and so is their share in the score, as in the published recipe.
    class_share = (np.float32(config.gamma) * class_scores.astype(np.float32)).astype(np.float64)
    score = contrast + class_share[row]
    return Proposals(row, first * seconds, (last + 1) * seconds, score)
