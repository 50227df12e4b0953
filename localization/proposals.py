"""Scored proposals from combined sequences: upsample, threshold, contrast (docs/method.md, section 5).

All rows are processed at once; a row is one predicted class of one video. Upsampling is linear, so its `scale` points per
snippet are never stored: between two snippets they only rise or only fall, so that at most one edge of a run lies there, found
by bisection, and their sums have a closed form. Each point needed is computed as if it had been stored, to the last bit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from options import LocalizationOptions
from utils.segments import Floats, Indices
from utils.snippet_grid import SnippetGrid


@dataclass(frozen=True, kw_only=True)
class Proposals:
    """N proposals; `row` is the position among the sequences given. Ordered by row, threshold, time."""

    row: Indices  # [N]
    start: Floats  # [N] seconds
    end: Floats  # [N] seconds
    score: Floats  # [N]


class Upsampled:
    """Rows [R,T] upsampled to [R,scale*T] points, linear between snippets, at i/scale; the last slope continues past the end.

    Point 0 is on no line; line j (0 .. T-2) holds points j*scale + 1 .. (j+1)*scale, and the last line the points past the end.
    Sequences are float32, as the network gives them, and so are the differences of neighbours, as in the published recipe; the
    rest is float64. (Either choice moves scores by 1e-8.)
    """

    def __init__(self, sequences: NDArray[np.floating], scale: int) -> None:
        values = sequences.astype(np.float32, copy=False)
        self.scale = scale
        self.rows, snippets = values.shape
        self.count = scale * snippets
        slope = np.diff(values, axis=1) if snippets > 1 else np.zeros((self.rows, 1), np.float32)
        self.slope = slope.astype(np.float64)  # [R,lines]
        self.start = values[:, : slope.shape[1]].astype(np.float64)  # [R,lines]
        self.lines = slope.shape[1]
        self.length = np.full(self.lines, scale)  # points of each line
        self.length[-1] = self.count - 1 - scale * (self.lines - 1)
        line_sums = scale * self.start[:, :-1] + (scale + 1) / 2 * self.slope[:, :-1]  # of all lines but the last
        self._before = np.cumsum(
            np.concatenate([self.start[:, :1], line_sums], axis=1), axis=1
        )  # of all points before a line

    def at(self, row: Indices, line: Indices, step: Indices) -> Floats:
        """The points `step` (1, 2 ..) of these lines."""
        return self.start[row, line] + self.slope[row, line] * (step / self.scale)

    def ends(self) -> tuple[Floats, Floats]:
        """The first and the last point of every line: [R,lines] each."""
        return self.start + self.slope * (1 / self.scale), self.start + self.slope * (self.length / self.scale)

    def sum_before(self, row: Indices, point: Indices) -> Floats:
        """Sum of the points 0 .. point - 1 of each row."""
        line = np.clip((point - 2) // self.scale, 0, self.lines - 1)
        step = np.maximum(point - 1 - line * self.scale, 0)
        slope = self.slope[row, line] * (step * (step + 1) / (2 * self.scale))
        return np.where(point > 0, self._before[row, line] + step * self.start[row, line] + slope, 0.0)


def runs_above(points: Upsampled, thresholds: tuple[float, ...]) -> tuple[Indices, Indices, Indices]:
    """Find every maximal run of points at or above each threshold -> (row, first, last), last inclusive.

    Runs are ordered by row, threshold, time. As in the published recipe, a threshold that only point 0 reaches yields no run.
    """
    if points.count == 1:
        nothing = np.zeros(0, np.int64)
        return nothing, nothing, nothing
    levels = np.asarray(thresholds)
    first_point, last_point = points.ends()
    begins_above = first_point[:, None, :] >= levels[:, None]  # [R,K,lines]
    ends_above = last_point[:, None, :] >= levels[:, None]
    zero_above = points.start[:, :1, None] >= levels[:, None]  # [R,K,1]
    before_above = np.concatenate([zero_above, ends_above[:, :, :-1]], axis=2)
    # A run's edge lies between the point before a line and its first point, or inside the line.
    starts = np.concatenate([zero_above, (begins_above & ~before_above) | (ends_above & ~begins_above)], axis=2)
    edges_down = (before_above & ~begins_above) | (begins_above & ~ends_above)
    stops = np.concatenate([edges_down, ends_above[:, :, -1:]], axis=2)

    row, level, line = _positions(starts)
    line -= 1
    inside = (line >= 0) & ~begins_above[row, level, line]
    first = np.where(line >= 0, line * points.scale + 1, 0)
    first[inside] += _bisect(points, row[inside], line[inside], levels[level[inside]], rising=True) - 1

    stop_row, stop_level, stop_line = _positions(stops)
    final = stop_line == points.lines
    inside = ~final & begins_above[stop_row, stop_level, np.minimum(stop_line, points.lines - 1)]
    last = np.where(final, points.count - 1, stop_line * points.scale)
    last[inside] += _bisect(points, stop_row[inside], stop_line[inside], levels[stop_level[inside]], rising=False) - 1

    threshold = row * len(levels) + level
    only_run = np.bincount(threshold, minlength=1)[threshold] == 1
    kept = ~(only_run & (last == 0))
    return row[kept], first[kept], last[kept]


def outer_inner_contrast(points: Upsampled, row: Indices, first: Indices, last: Indices, *, margin: float) -> Floats:
    """Contrast each run with its surroundings: the mean inside minus the mean just outside, within `margin` lengths -> [N]."""
    length = last - first + 1
    # Limited before they become integers, which a wide margin would overflow.
    left = np.maximum(0, first - margin * length).astype(np.int64)
    right = np.minimum(points.count - 1, last + margin * length).astype(np.int64)
    before, after = points.sum_before(row, first), points.sum_before(row, last + 1)
    outer_sum = (before - points.sum_before(row, left)) + (points.sum_before(row, right + 1) - after)
    outer_count = (first - left) + (right - last)
    return (after - before) / length - outer_sum / np.maximum(outer_count, 1)


def generate_proposals(
    sequences: NDArray[np.floating],
    *,
    class_scores: NDArray[np.floating],
    num_snippets: NDArray[np.integer],
    fps: Floats,
    options: LocalizationOptions,
    grid: SnippetGrid,
) -> Proposals:
    """Make proposals from combined sequences [R,T], their classes' scores [R], and their videos' lengths and frame rates [R].

    `num_snippets` is a video's length before resampling: with the frame rate and the grid it determines the seconds.
    """
    points = Upsampled(sequences, options.scale)
    row, first, last = runs_above(points, options.thresholds)
    contrast = outer_inner_contrast(points, row, first, last, margin=options.outer_margin)

    def seconds(point: Indices) -> Floats:
        return grid.seconds(point * num_snippets[row] / points.count, fps[row])

    # Class scores are the network's float32, and so is their share of a proposal's score, as in the published recipe.
    class_share = (np.float32(options.gamma) * class_scores.astype(np.float32)).astype(np.float64)
    return Proposals(row=row, start=seconds(first), end=seconds(last + 1), score=contrast + class_share[row])


def _positions(mark: NDArray[np.bool_]) -> tuple[Indices, Indices, Indices]:
    """numpy.nonzero in three dimensions, several times as fast."""
    row, rest = np.divmod(np.flatnonzero(mark), mark.shape[1] * mark.shape[2])
    return row, *np.divmod(rest, mark.shape[2])


def _bisect(points: Upsampled, row: Indices, line: Indices, level: Floats, *, rising: bool) -> Indices:
    """Find each line's first step past its level; the line's first point lies before the level, its last past it."""
    near, far = np.ones(len(row), np.int64), points.length[line]
    for _ in range(int(points.length.max(initial=1)).bit_length()):
        middle = (near + far) // 2
        beyond = (points.at(row, line, middle) >= level) == rising
        far = np.where(beyond, middle, far)
        near = np.where(beyond, near, middle)
    return far
