"""Upsampling, thresholds and outer-inner contrast against plain loops and scipy."""

import numpy as np
import oracles
import pytest
from scipy.interpolate import interp1d

from utils.proposals import ProposalConfig, generate_proposals, outer_inner_contrast, runs_above, upsample


def smooth_curves(seed, t, columns):
    generator = np.random.default_rng(seed)
    return np.clip(0.5 + np.cumsum(generator.normal(0, 0.12, (t, columns)), 0), 0, 1).astype(np.float32)


@pytest.mark.parametrize("t", [2, 3, 50])
def test_upsample_is_linear_interpolation_with_extrapolation(t):
    curves = smooth_curves(0, t, 3)
    at = np.arange(24 * t) / 24
    expected = interp1d(np.arange(t), curves, axis=0, fill_value="extrapolate")(at).T
    np.testing.assert_allclose(upsample(curves, 24), expected, rtol=0, atol=1e-12)


def test_upsample_of_one_snippet_is_constant():
    assert upsample(np.array([[0.5, 0.25]], np.float32), 3).tolist() == [[0.5] * 3, [0.25] * 3]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("margin", "scale"), [(0.2, 24), (0.25, 4), (1.5, 3)])
def test_proposals(seed, margin, scale):
    curves, scores = smooth_curves(seed, 40, 3), np.array([0.3, 0.9, 0.05], np.float32)
    config = ProposalConfig(scale=scale, outer_margin=margin, gamma=0.25)
    found = generate_proposals(curves, scores, 77, config)
    thresholds = [round(0.1 * i, 1) for i in range(1, 10)]
    for column in range(3):
        points = oracles.upsample(curves[:, column].astype(float).tolist(), scale)
        expected = oracles.proposals(points, float(scores[column]), 77, scale, thresholds, margin, 0.25)
        mine = found.column == column
        actual = np.stack([found.start[mine], found.end[mine], found.score[mine]], 1)
        # The oracle interpolates in float64 throughout, hence 1e-7; the golden files pin the digits.
        np.testing.assert_allclose(actual, np.array(expected).reshape(-1, 3), rtol=0, atol=1e-7)


def test_runs_by_hand():
    points = np.array(
        [[0.5, 0.1, 0.5, 0.5, 0.1, 0.5], [0.5, 0, 0, 0, 0, 0], [0.6, 0.6, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    )
    row, first, last = runs_above(points, (0.5,))
    # Row 1 reaches the threshold at point 0 alone: none, as published. In row 0 the run of point 0 stands.
    assert list(zip(row.tolist(), first.tolist(), last.tolist(), strict=True)) == [
        (0, 0, 0),
        (0, 2, 3),
        (0, 5, 5),
        (2, 0, 1),
    ]


def test_threshold_itself_counts():
    _, first, last = runs_above(np.array([[0.0, 0.5, 0.0]]), (0.5,))
    assert (first.tolist(), last.tolist()) == ([1], [1])


def test_contrast_by_hand():
    points = np.array([[0.0, 0.2, 1.0, 0.8, 0.4, 0.0]])
    rows = np.zeros(2, np.int64)
    # [2,3] at margin 0.5: outside are points 1 and 4. [0,5]: nothing is outside.
    contrast = outer_inner_contrast(points, rows, np.array([2, 0]), np.array([3, 5]), 0.5)
    np.testing.assert_allclose(contrast, [0.9 - 0.3, 0.4])


def test_no_class_and_no_proposal():
    none = generate_proposals(np.zeros((9, 0), np.float32), np.zeros(0, np.float32), 9, ProposalConfig())
    assert len(none.score) == 0
    low = generate_proposals(np.zeros((9, 1), np.float32), np.ones(1, np.float32), 9, ProposalConfig())
    assert len(low.score) == 0


def test_seconds_follow_snippet_length_and_frame_rate():
    curve = np.array([[0.0], [1.0], [1.0], [0.0]], np.float32)
    config = ProposalConfig(scale=1, thresholds=(0.5,), snippet_frames=32, fps=50.0)
    found = generate_proposals(curve, np.ones(1, np.float32), 8, config)  # 8 snippets of 0.64 s in 4 points
    assert (found.start.tolist(), found.end.tolist()) == ([1.28], [3.84])
