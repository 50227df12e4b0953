"""Measures of hits and of scores, each against a plain loop and an answer worked by hand."""

import math

import numpy as np
import pytest

from eval.average_precision import (
    average_precision,
    eleven_point_average_precision,
    pr_curve,
    pr_curves,
    raw_average_precision,
)
from eval.calibration import calibration
from eval.classification import classification_ap, top1_accuracy
from eval.operating_points import operating_points
from eval.recall import average_recall
from utils.errors import InputError
from utils.segments import Segments

NONE = Segments.from_rows([])


def segments(generator, count, *, videos=3, labels=2):
    start = generator.integers(0, 12, count).astype(float)
    length = generator.integers(0, 6, count)
    score = generator.random(count).round(1)
    return Segments(
        generator.integers(0, videos, count), generator.integers(0, labels, count), start, start + length, score
    )


def descending(score):
    """Positions by score, equal ones as given."""
    return sorted(range(len(score)), key=lambda i: -score[i])


# Precision and recall


def test_three_rules_of_ap_by_hand():
    hits = np.array([[True, False, True, False]])  # precision 1, 1/2, 2/3, 1/2; recall 1/4, 1/4, 1/2, 1/2
    assert raw_average_precision(hits, 4)[0] == pytest.approx((1 + 2 / 3) / 4)
    assert average_precision(hits, 4)[0] == pytest.approx((1 + 2 / 3) / 4)
    assert eleven_point_average_precision(hits, 4)[0] == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)  # to 0.2, to 0.5
    late = np.array([[False, True, True]])  # precision 0, 1/2, 2/3
    assert raw_average_precision(late, 2)[0] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert average_precision(late, 2)[0] == pytest.approx(2 / 3)
    assert eleven_point_average_precision(late, 2)[0] == pytest.approx(2 / 3)


@pytest.mark.parametrize("count", [3, 7, 10, 20])
def test_eleven_points_are_what_floating_point_makes_of_tenths(count):
    for found in range(1, count + 1):
        reached = sum(found / count >= tenth * 0.1 for tenth in range(11))
        hits = np.ones((1, found), bool)
        assert eleven_point_average_precision(hits, count)[0] == pytest.approx(reached / 11)
    assert eleven_point_average_precision(np.ones((1, 3), bool), 10)[0] == pytest.approx(3 / 11)  # 0.3 < 3 * 0.1


@pytest.mark.parametrize("rule", [average_precision, raw_average_precision, eleven_point_average_precision])
def test_no_detections_have_no_precision(rule):
    assert rule(np.zeros((2, 0), bool), 3).tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(4))
def test_curves_are_those_of_counting(seed):
    generator = np.random.default_rng(seed)
    score, hit = generator.random(30).round(1), generator.random(30) < 0.4
    curve = pr_curve(hit, score, count=20)
    found, precision, recall = 0, [], []
    for rank, i in enumerate(descending(score), 1):
        found += hit[i]
        precision.append(found / rank)
        recall.append(found / 20)
    np.testing.assert_allclose(curve.precision, precision)
    np.testing.assert_allclose(curve.recall, recall)
    np.testing.assert_allclose(curve.interpolated, [max(precision[i:]) for i in range(30)])
    assert curve.score.tolist() == sorted(score, reverse=True)


def test_a_curve_per_class_with_ground_truth():
    truth = Segments.from_rows([(0, 0, 0, 1, 1), (0, 0, 5, 6, 1), (0, 2, 0, 1, 1)])
    found = Segments.from_rows([(0, 1, 0, 1, 0.9), (0, 0, 2, 3, 0.5), (0, 0, 0, 1, 0.7)])
    first, second, third = pr_curves(np.array([True, False, True]), truth, found, num_classes=3)
    assert first is not None and second is None and third is not None
    assert first.precision.tolist() == [1, 0.5] and first.recall.tolist() == [0.5, 0.5]
    assert len(third.precision) == len(third.recall) == 0


# Thresholds


def test_operating_points_by_hand():
    points = operating_points(np.array([False, True, True, False]), np.array([0.2, 0.9, 0.5, 0.5]), count=4)
    assert points.threshold.tolist() == [0.9, 0.5, 0.2] and points.detections.tolist() == [1, 3, 4]
    assert points.precision.tolist() == [1, 2 / 3, 0.5] and points.recall.tolist() == [0.25, 0.5, 0.5]
    np.testing.assert_allclose(points.f1, [2 / 5, 4 / 7, 4 / 8])
    assert points.best is not None and points.best.threshold == 0.5 and points.best.f1 == pytest.approx(4 / 7)


@pytest.mark.parametrize("seed", range(4))
def test_operating_points_are_those_of_counting(seed):
    generator = np.random.default_rng(seed)
    score, hit = generator.normal(size=40).round(1), generator.random(40) < 0.3
    points = operating_points(hit, score, count=15)
    assert points.threshold.tolist() == sorted(set(score), reverse=True)
    for i, threshold in enumerate(points.threshold):
        kept = [n for n in range(40) if score[n] >= threshold]
        precision, recall = sum(hit[kept]) / len(kept), sum(hit[kept]) / 15
        f1 = 2 * precision * recall / (precision + recall) if precision else 0
        assert (points.precision[i], points.recall[i], points.f1[i]) == pytest.approx((precision, recall, f1))


def test_without_detections_no_threshold_is_best():
    assert operating_points(np.zeros(0, bool), np.zeros(0), count=3).best is None


# Recall


def test_average_recall_by_hand():
    truth = Segments.from_rows([(0, 0, 0, 10, 1), (0, 1, 0, 10, 1), (1, 0, 0, 10, 1), (1, 0, 20, 30, 1)])
    found = Segments.from_rows(
        [
            (0, 1, 0, 8, 0.5),  # tIoU 0.8 with both instances of video 0, whatever their class
            (0, 0, 50, 60, 0.9),  # nothing, and it comes first there
            (1, 0, 20, 30, 0.1),
            (2, 0, 0, 10, 1.0),  # in a video without ground truth
        ]
    )
    recall = average_recall(truth, found, tious=(0.5, 0.9), most=3)
    assert recall.recall.tolist() == [[0.25, 0.75, 0.75], [0.25, 0.25, 0.25]]
    assert recall.at(2) == 0.5 and recall.area == pytest.approx((0.375 + 0.5) / 3)


@pytest.mark.parametrize("seed", range(6))
def test_average_recall_is_that_of_looking_at_every_video(seed):
    generator = np.random.default_rng(seed)
    truth, found = segments(generator, 15), segments(generator, 60, videos=4)
    recall = average_recall(truth, found, tious=(0.2, 0.5, 1.0), most=8)
    for k, tiou in enumerate(recall.tious):
        for most in range(1, 9):
            covered = 0
            for g in range(len(truth)):
                mine = [i for i in descending(found.score) if found.video[i] == truth.video[g]][:most]
                covered += any(overlap(truth, g, found, i) >= tiou for i in mine)
            assert recall.recall[k, most - 1] == pytest.approx(covered / len(truth))


def overlap(truth, g, found, i):
    inter = max(0, min(truth.end[g], found.end[i]) - max(truth.start[g], found.start[i]))
    union = truth.end[g] - truth.start[g] + found.end[i] - found.start[i] - inter
    return inter / union if union > 0 else 0


def test_average_recall_of_nothing():
    truth = Segments.from_rows([(0, 0, 0, 10, 1)])
    assert average_recall(truth, NONE).average.tolist() == [0] * 100
    with pytest.raises(InputError, match="no ground-truth"):
        average_recall(NONE, truth)


# Classes of videos


def test_classification_by_hand():
    scores = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1]])
    labels = np.array([[False, True, False], [True, False, False], [False, True, False]])
    assert top1_accuracy(scores, labels) == pytest.approx(2 / 3)
    ap = classification_ap(scores, labels)
    assert ap[:2] == pytest.approx([1 / 2, (1 + 2 / 3) / 2]) and math.isnan(ap[2])


@pytest.mark.parametrize("seed", range(3))
def test_classification_ap_is_that_of_counting(seed):
    generator = np.random.default_rng(seed)
    scores, labels = generator.random((25, 4)).round(1), generator.random((25, 4)) < 0.3
    for label, ap in enumerate(classification_ap(scores, labels)):
        found, total = 0, 0.0
        for rank, v in enumerate(descending(scores[:, label]), 1):
            if labels[v, label]:
                found += 1
                total += found / rank
        assert ap == pytest.approx(total / labels[:, label].sum())


# Calibration


def test_calibration_by_hand():
    curve = calibration(np.array([0.1, 0.3, 0.5, 1.0]), np.array([False, True, True, True]), bins=2)
    assert curve.edges.tolist() == [0, 0.5, 1] and curve.count.tolist() == [2, 2]
    assert curve.mean_score == pytest.approx([0.2, 0.75]) and curve.share_right.tolist() == [0.5, 1]
    assert curve.expected_error == pytest.approx((0.3 + 0.25) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_is_that_of_counting(seed):
    generator = np.random.default_rng(seed)
    score, right = generator.normal(0.5, 0.6, 50).astype(np.float32), generator.random(50) < 0.5  # also beyond 0 .. 1
    curve = calibration(score, right, bins=5)
    assert curve.edges[0] == min(score) and curve.edges[-1] == max(score)
    error = 0.0
    for b in range(5):
        last = b == 4
        mine = [i for i in range(50) if curve.edges[b] <= score[i] and (last or score[i] < curve.edges[b + 1])]
        assert curve.count[b] == len(mine)
        if mine:
            gap = sum(float(score[i]) - right[i] for i in mine) / len(mine)
            assert curve.mean_score[b] - curve.share_right[b] == pytest.approx(gap)
            error += abs(gap) * len(mine) / 50
    assert curve.expected_error == pytest.approx(error)


def test_calibration_of_nothing():
    empty = calibration(np.zeros(0), np.zeros(0, bool))
    assert empty.count.sum() == 0 and math.isnan(empty.expected_error) and np.isnan(empty.mean_score).all()


def test_calibration_of_scores_as_large_as_numbers_get():
    curve = calibration(np.array([1.7e308, 1.7e308, -1e308, 0.5]), np.ones(4, bool))
    assert np.isfinite(curve.edges).all() and curve.mean_score[-1] == 1.7e308 and np.isfinite(curve.expected_error)
