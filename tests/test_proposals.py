"""Upsampling, thresholds and outer-inner contrast against plain loops and scipy."""

import numpy as np
import pytest
from scipy.interpolate import interp1d

from localization.proposals import Upsampled, generate_proposals, outer_inner_contrast, runs_above
from options import LocalizationOptions
from reference import loops
from utils.snippet_grid import SnippetGrid

GRID = SnippetGrid(frames=16, stride=16)


def make_proposals(curves, scores, lengths, *, fps=25.0, grid=GRID, **options):
    return generate_proposals(
        curves,
        class_scores=scores,
        num_snippets=lengths,
        fps=np.full(len(curves), fps),
        options=LocalizationOptions(**options),
        grid=grid,
    )


def smooth_curves(seed, t, rows):
    generator = np.random.default_rng(seed)
    return np.clip(0.5 + np.cumsum(generator.normal(0, 0.12, (rows, t)), 1), 0, 1).astype(np.float32)


def laid_out(points):
    """Every point of every row, one by one."""
    out = np.empty((points.rows, points.count))
    for row in range(points.rows):
        for i in range(points.count):
            line = min(max(i - 1, 0) // points.scale, points.lines - 1)
            out[row, i] = points.at(row, line, i - line * points.scale)
    return out


@pytest.mark.parametrize("t", [2, 3, 50])
def test_upsampling_is_linear_interpolation_with_extrapolation(t):
    curves = smooth_curves(0, t, 3)
    expected = interp1d(np.arange(t), curves, fill_value="extrapolate")(np.arange(24 * t) / 24)
    # Neighbours' differences are float32, hence 1e-7; the golden files pin the digits.
    np.testing.assert_allclose(laid_out(Upsampled(curves, 24)), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [1, 3])
def test_one_snippet_is_upsampled_to_a_constant(scale):
    points = Upsampled(np.array([[0.5], [0.25]], np.float32), scale)
    assert laid_out(points).tolist() == [[0.5] * scale, [0.25] * scale]


@pytest.mark.parametrize(("t", "scale"), [(1, 1), (1, 4), (2, 1), (2, 5), (7, 24)])
def test_sums_of_points(t, scale):
    points = Upsampled(smooth_curves(1, t, 2), scale)
    each = laid_out(points)
    for row in range(2):
        for i in range(points.count + 1):
            assert points.sum_before(np.array([row]), np.array([i])) == pytest.approx(each[row, :i].sum(), abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_runs_are_those_of_all_points_laid_out(seed):
    """True also of values exactly on a threshold, and of a single snippet or point."""
    generator = np.random.default_rng(seed)
    rows, t, scale = (int(n) for n in generator.integers(1, (4, 9, 26)))
    curves = generator.random((rows, t)) if seed % 2 else generator.integers(0, 9, (rows, t)) / 8
    points, thresholds = Upsampled(curves.astype(np.float32), scale), (0.125, 0.3, 0.5, 0.875)
    expected = []
    for r, values in enumerate(laid_out(points)):
        for threshold in thresholds:
            above = [i for i, value in enumerate(values) if value >= threshold]
            firsts = [i for i in above if i - 1 not in above]
            lasts = [i for i in above if i + 1 not in above]
            expected += [] if above == [0] else [(r, a, b) for a, b in zip(firsts, lasts, strict=True)]
    actual = zip(*(column.tolist() for column in runs_above(points, thresholds)), strict=True)
    assert list(actual) == expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("margin", "scale"), [(0.2, 24), (0.25, 4), (1.5, 3)])
def test_proposals(seed, margin, scale):
    curves, scores = smooth_curves(seed, 40, 3), np.array([0.3, 0.9, 0.05], np.float32)
    lengths = np.array([77, 40, 9])
    found = make_proposals(curves, scores, lengths, scale=scale, outer_margin=margin, gamma=0.25)
    thresholds = [round(0.1 * i, 1) for i in range(1, 10)]
    for row in range(3):
        points = loops.upsample(curves[row].astype(float).tolist(), scale)
        length = int(lengths[row])
        expected = loops.proposals(points, float(scores[row]), length, thresholds, margin, 0.25)
        mine = found.row == row
        actual = np.stack([found.start[mine], found.end[mine], found.score[mine]], 1)
        # The oracle interpolates in float64 throughout, hence 1e-7; the golden files pin the digits.
        np.testing.assert_allclose(actual, np.array(expected).reshape(-1, 3), rtol=0, atol=1e-7)


def test_runs_by_hand():
    points = [[0.5, 0, 0.5, 0.5, 0.25, 0.5], [0.5, 0, 0, 0, 0, 0], [0.75, 0.75, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    row, first, last = runs_above(Upsampled(np.array(points), 1), (0.5,))
    # Row 1 reaches the threshold at point 0 alone: none, as published. In row 0 the run of point 0 stands.
    assert list(zip(row.tolist(), first.tolist(), last.tolist(), strict=True)) == [
        (0, 0, 0),
        (0, 2, 3),
        (0, 5, 5),
        (2, 0, 1),
    ]


def test_threshold_itself_counts():
    _, first, last = runs_above(Upsampled(np.array([[0.0, 0.5, 0.0]]), 1), (0.5,))
    assert (first.tolist(), last.tolist()) == ([1], [1])


def test_contrast_by_hand():
    points = Upsampled(np.array([[0.0, 0.2, 1.0, 0.8, 0.4, 0.0]]), 1)
    rows = np.zeros(2, np.int64)
    # [2,3] at margin 0.5: outside are points 1 and 4. [0,5]: nothing is outside.
    contrast = outer_inner_contrast(points, rows, np.array([2, 0]), np.array([3, 5]), margin=0.5)
    np.testing.assert_allclose(contrast, [0.9 - 0.3, 0.4], rtol=1e-6)


def test_a_single_point_yields_none():
    one = make_proposals(np.ones((2, 1), np.float32), np.ones(2, np.float32), np.ones(2, int), scale=1)
    assert len(one.score) == 0


def test_no_class_and_no_proposal():
    none = make_proposals(np.zeros((0, 9), np.float32), np.zeros(0, np.float32), np.zeros(0, int))
    assert len(none.score) == 0
    low = make_proposals(np.zeros((1, 9), np.float32), np.ones(1, np.float32), np.array([9]))
    assert len(low.score) == 0


def test_seconds_follow_snippet_length_and_frame_rate():
    """8 snippets of 0.64 s in 4 points."""
    curve = np.array([[0.0, 1.0, 1.0, 0.0]], np.float32)
    grid = SnippetGrid(frames=32, stride=32)
    one, eight = np.ones(1, np.float32), np.array([8])
    found = make_proposals(curve, one, eight, fps=50.0, grid=grid, scale=1, proposal_th="0.5")
    assert (found.start.tolist(), found.end.tolist()) == ([1.28], [3.84])
