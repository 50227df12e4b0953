"""Hard and soft NMS against a plain loop."""

import numpy as np
import pytest

from localization.nms import nms
from options import LocalizationOptions
from reference import loops
from utils.segments import temporal_iou


def random_proposals(seed, count):
    generator = np.random.default_rng(seed)
    start = generator.uniform(0, 60, count)
    return start, start + generator.uniform(0.2, 20, count), generator.normal(0.3, 0.2, count).round(2)  # with ties


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 60])
@pytest.mark.parametrize("seed", range(4))
def test_nms(seed, count, soft):
    start, end, score = random_proposals(seed, count)
    kept, scores = nms(np.zeros(count, np.int64), start, end, score, options=LocalizationOptions(soft_nms=soft))
    segments = list(zip(start.tolist(), end.tolist(), strict=True))
    expected = loops.nms(segments, score.tolist(), 0.4, 1.0, soft_alpha=0.3 if soft else None)
    assert sorted(kept.tolist()) == sorted(i for i, _ in expected)
    np.testing.assert_allclose(scores, [s for _, s in expected], rtol=0, atol=1e-12)
    by_position = dict(expected)
    np.testing.assert_allclose(scores, [by_position[i] for i in kept.tolist()], rtol=0, atol=1e-12)


def test_soft_decays_once_by_the_remover():
    start, end, score = np.array([0.0, 1.0, 2.0]), np.array([10.0, 11.0, 12.0]), np.array([0.9, 0.8, 0.7])
    kept, scores = nms(np.zeros(3, np.int64), start, end, score, options=LocalizationOptions())
    overlaps = [10 / 12, 9 / 13]
    expected = [0.9, 0.8 * np.exp(-(overlaps[0] ** 2) / 0.3), 0.7 * np.exp(-(overlaps[1] ** 2) / 0.3)]
    np.testing.assert_allclose(scores, sorted(expected, reverse=True))
    assert kept[0] == 0


def test_a_negative_score_survives():
    kept, scores = nms(np.array([0]), np.array([0.0]), np.array([1.0]), np.array([-0.2]), options=LocalizationOptions())
    assert (kept.tolist(), scores.tolist()) == ([0], [-0.2])


def test_temporal_iou():
    start, end = np.array([0.0, 0.0, 5.0, 3.0]), np.array([2.0, 1.0, 6.0, 3.0])
    np.testing.assert_allclose(temporal_iou(start, end, 1.0, 3.0), [1 / 3, 0, 0, 0])
    np.testing.assert_allclose(temporal_iou(start, end, 1.0, 3.0, offset=1.0)[0], 2 / 4)
    assert temporal_iou(np.array([3.0]), np.array([3.0]), 3.0, 3.0).tolist() == [0.0]  # no length at all


@pytest.mark.parametrize("soft", [False, True])
def test_groups_do_not_see_each_other(soft):
    """Several groups, mixed up, some of one proposal: what each gives alone, group after group."""
    generator = np.random.default_rng(3)
    start, end, score = random_proposals(3, 200)
    group = generator.integers(0, 40, 200)
    group[group == 7] = 8
    options = LocalizationOptions(soft_nms=soft)
    kept, scores = nms(group, start, end, score, options=options)
    expected = []
    for g in range(40):
        mine = np.flatnonzero(group == g)
        alone = nms(np.zeros(len(mine), np.int64), start[mine], end[mine], score[mine], options=options)
        expected += zip(mine[alone[0]].tolist(), alone[1].tolist(), strict=True)
    assert list(zip(kept.tolist(), scores.tolist(), strict=True)) == expected
