"""Intervals over videos and seeds, against rebuilt sets, scipy's bootstrap and tables of t."""

import math
import time

import numpy as np
import pytest
from scipy import stats
from support.paths import SHARED

from eval import statistics
from eval.detection import evaluate_detections
from eval.files import PairOptions, read_pair
from eval.statistics import (
    Estimate,
    WeightedEvaluation,
    bca_bootstrap,
    bca_levels,
    draw_weights,
    num_steps,
    over_seeds,
    paired_bootstrap,
    paired_over_seeds,
)
from utils.errors import InputError
from utils.segments import Segments

TIOUS = (0.3, 0.5, 0.7)
REAL_DETECTIONS = SHARED / "golden" / "detections" / "thumos14_test.json"
REAL_TRUTH = SHARED / "data" / "thumos14" / "gt.json"


def random_case(seed, *, videos=12, classes=3, truth=40, found=300):
    generator = np.random.default_rng(seed)

    def segments(count):
        start, length = generator.uniform(0, 30, count), generator.uniform(1, 12, count)
        columns = generator.integers(0, videos, count), generator.integers(0, classes, count)
        return Segments(*columns, start, start + length, generator.random(count).round(1))  # many equal scores

    return segments(truth), segments(found)


def with_copies(segments, weight):
    """Each segment once for every copy of its video, which gets a number of its own."""
    first = np.cumsum(weight) - weight
    rows = []
    for v, c, s, e, p in zip(segments.video, segments.label, segments.start, segments.end, segments.score, strict=True):
        rows += [(first[v] + copy, c, s, e, p) for copy in range(weight[v])]
    return Segments.from_rows(rows)


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_copies_of_videos(seed):
    truth, found = random_case(seed)
    evaluation = WeightedEvaluation(truth, found, num_classes=4, num_videos=12, tious=TIOUS)  # one class more
    weights = [np.ones(12, np.int64), *draw_weights(12, draws=20, seed=seed), np.eye(12, dtype=np.int64)[3] * 12]
    for weight in weights:
        drawn = with_copies(truth, weight)
        expected = evaluate_detections(drawn, with_copies(found, weight), num_classes=4, tious=TIOUS).per_class_ap
        np.testing.assert_allclose(evaluation.per_class_ap(weight), expected, rtol=0, atol=1e-12)


def test_a_draw_is_as_many_videos_and_a_seed_the_same_draws():
    weights = list(draw_weights(7, draws=5, seed=3))
    assert all(weight.sum() == 7 and len(weight) == 7 for weight in weights)
    assert np.array_equal(weights, list(draw_weights(7, draws=5, seed=3)))
    assert not np.array_equal(weights, list(draw_weights(7, draws=5, seed=4)))


def test_the_difference_is_of_the_same_draws():
    truth, found = random_case(0)
    settings = {"num_classes": 3, "num_videos": 12, "tious": TIOUS}
    same = paired_bootstrap(truth, found, found, **settings, draws=20)
    assert (same.average.value, same.average.sd, same.average.low, same.average.high) == (0, 0, 0, 0)
    assert not same.average.is_clear and not same.average.has_interval

    half = found.take(np.arange(150))
    steps = []
    result = paired_bootstrap(truth, found, half, **settings, draws=100, seed=5, step=lambda: steps.append(1))
    assert result.draws == 100 and len(steps) == num_steps(12, draws=100) == 100 + 12  # and without each video
    drawn = []
    for weight in draw_weights(12, draws=100, seed=5):
        one, other = (
            evaluate_detections(with_copies(truth, weight), with_copies(which, weight), num_classes=3, tious=TIOUS)
            for which in (found, half)
        )
        drawn.append([*(other.map - one.map), other.average_map() - one.average_map()])
    low, high = np.quantile(np.array(drawn), (0.025, 0.975), axis=0)
    estimates = [*result.by_tiou, result.average]
    np.testing.assert_allclose([e.low for e in estimates], low, atol=1e-12)
    np.testing.assert_allclose([e.high for e in estimates], high, atol=1e-12)
    np.testing.assert_allclose([e.sd for e in estimates], np.std(drawn, axis=0, ddof=1), atol=1e-12)
    one, other = (evaluate_detections(truth, d, num_classes=3, tious=TIOUS) for d in (found, half))
    assert result.average.value == pytest.approx(other.average_map() - one.average_map(), abs=1e-12)
    for estimates, detections in ((result.first, found), (result.second, half)):
        assert estimates == bca_bootstrap(truth, detections, **settings, draws=100, seed=5)
    by_class = (other.per_class_ap - one.per_class_ap).mean(0)
    assert [e.value for e in result.by_class] == pytest.approx(by_class.tolist(), abs=1e-12)


def test_bca_is_scipys():
    truth, found = random_case(1)
    evaluation = WeightedEvaluation(truth, found, num_classes=3, num_videos=12, tious=TIOUS)

    def average(videos):
        return np.nanmean(evaluation.per_class_ap(np.bincount(videos, minlength=12)), axis=1).mean()

    expected = stats.bootstrap(
        (np.arange(12),),
        average,
        n_resamples=300,
        vectorized=False,
        method="BCa",
        random_state=np.random.default_rng(7),
    )
    result = bca_bootstrap(truth, found, num_classes=3, num_videos=12, tious=TIOUS, draws=300, seed=7).average
    assert result.value == pytest.approx(average(np.arange(12)), abs=1e-12)
    interval = expected.confidence_interval
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert result.sd == pytest.approx(expected.standard_error, abs=1e-12)


def test_many_videos_are_left_out_in_groups(monkeypatch):
    truth, found = random_case(1, videos=120, truth=240, found=900)
    settings = {"num_classes": 3, "num_videos": 120, "tious": TIOUS, "draws": 300}
    each = bca_bootstrap(truth, found, **settings).average
    monkeypatch.setattr(statistics, "MOST_LEFT_OUT", 40)
    grouped = bca_bootstrap(truth, found, **settings).average
    assert (grouped.low, grouped.high) != (each.low, each.high)
    assert (grouped.low, grouped.high) == pytest.approx((each.low, each.high), abs=0.1 * each.sd)


@pytest.mark.parametrize(("draws", "instances_in"), [(2, 12), (100, 1)])
def test_draws_that_are_all_the_same_make_nothing_clear(draws, instances_in):
    """With one video that has instances, or with few draws: +100 [+100, +100] says nothing of how sure it is."""
    truth = Segments.from_rows([(v, 0, 0, 10, 1) for v in range(instances_in)])
    nothing = Segments.from_rows([])
    settings = {"num_classes": 1, "num_videos": 12, "tious": TIOUS, "draws": draws}
    found = paired_bootstrap(truth, nothing, truth, **settings)
    for estimate in (found.average, *found.by_tiou, *found.by_class, found.second.average):
        assert estimate.value == 1 and not estimate.has_interval and not estimate.is_clear


def test_an_interval_of_rounding_errors_is_none():
    assert not Estimate(value=0.1, sd=0.0, low=0.1, high=0.1 + 1e-16).is_clear
    assert not Estimate(value=0.1, sd=math.nan, low=math.nan, high=math.nan).has_interval
    assert Estimate(value=0.1, sd=0.1, low=0.05, high=0.2).is_clear


def test_bca_levels_by_hand():
    """Without bias and skew it is the percentile interval; with half of a standard deviation of bias, both ends move by one."""
    symmetric = np.array([-1.0, 1.0])
    drawn = np.arange(-50, 51) / 10
    assert bca_levels(0.0, drawn, symmetric, confidence=0.9) == pytest.approx((0.05, 0.95))
    median = float(np.quantile(drawn, stats.norm.cdf(0.5)))
    below = ((drawn < median).mean() + (drawn <= median).mean()) / 2
    shift = 2 * stats.norm.ppf(below)
    expected = stats.norm.cdf(shift + stats.norm.ppf([0.05, 0.95]))
    assert bca_levels(median, drawn, symmetric, confidence=0.9) == pytest.approx(tuple(expected))
    # One value far below the others: acceleration is 12 a^3 / (6 (...)^1.5), spread -> [-1, -1, -1, 3] / sd
    skewed = np.array([1.0, 1.0, 1.0, -3.0])
    acceleration = (27 - 3) / (6 * 12**1.5)
    z = stats.norm.ppf([0.05, 0.95])
    expected = stats.norm.cdf(z / (1 - acceleration * z))
    assert bca_levels(0.0, drawn, skewed, confidence=0.9) == pytest.approx(tuple(expected))


def test_without_spread_there_is_no_bca_interval():
    truth, found = random_case(2)
    result = bca_bootstrap(truth, Segments.from_rows([]), num_classes=4, num_videos=12, tious=TIOUS, draws=5)
    assert result.average.value == 0 and math.isnan(result.average.low) and math.isnan(result.average.high)
    assert math.isnan(result.by_class[3].value)  # a class without instances
    nothing = Segments.from_rows([])
    for compute in (
        lambda: bca_bootstrap(nothing, found, num_classes=3, num_videos=12, tious=TIOUS),
        lambda: paired_bootstrap(nothing, found, found, num_classes=3, num_videos=12, tious=TIOUS),
    ):
        with pytest.raises(InputError, match="no ground-truth"):
            compute()


@pytest.mark.parametrize(("n", "half"), [(3, 2.48), (5, 1.24), (10, 0.72)])
def test_t_intervals(n, half):
    values = np.random.default_rng(n).normal(size=n)
    estimate = over_seeds(values.tolist())
    assert estimate.n == n and estimate.value == pytest.approx(values.mean())
    assert estimate.sd == pytest.approx(math.sqrt(((values - values.mean()) ** 2).sum() / (n - 1)))
    assert (estimate.high - estimate.value) / estimate.sd == pytest.approx(half, abs=0.005)
    assert estimate.value - estimate.low == pytest.approx(estimate.high - estimate.value)


def test_one_seed_has_no_interval():
    estimate = over_seeds([0.4])
    assert (estimate.value, estimate.n) == (0.4, 1)
    assert math.isnan(estimate.sd) and math.isnan(estimate.low) and math.isnan(estimate.high)


def test_seeds_are_paired():
    first, second = {1: 0.40, 2: 0.50, 3: 0.1}, {2: 0.53, 1: 0.41, 9: 0.9}
    estimate = paired_over_seeds(first, second)
    assert estimate.n == 2 and estimate.value == pytest.approx(0.02)
    assert estimate.sd == pytest.approx(math.sqrt(2) * 0.01)
    assert estimate.high - estimate.value == pytest.approx(12.7062 * 0.01, abs=1e-6)  # t of one degree of freedom
    with pytest.raises(InputError, match="no seed"):
        paired_over_seeds(first, {4: 0.1})


@pytest.mark.skipif(not REAL_DETECTIONS.exists(), reason="the real detections are not part of the project")
def test_the_noise_of_the_real_detections():
    """Those in the 210 videos: 43.27 with a standard deviation of 1.44 over draws of videos, whose mean is 0.95 too high."""
    pair = read_pair(REAL_TRUTH, REAL_DETECTIONS, PairOptions(unknown="skip"))
    tious = tuple(round(0.1 * i, 1) for i in range(1, 8))
    settings = {"num_classes": len(pair.classes), "num_videos": len(pair.videos), "tious": tious}
    start = time.process_time()
    result = bca_bootstrap(pair.truth, pair.detections, **settings, draws=500)
    assert (time.process_time() - start) * 2000 / 500 < 30
    assert 100 * result.average.value == pytest.approx(43.27, abs=0.02)
    assert 100 * result.average.sd == pytest.approx(1.44, abs=0.15)  # 500 draws: the sd's own is 3 %
    evaluation = WeightedEvaluation(pair.truth, pair.detections, **settings)
    drawn = [
        np.nanmean(evaluation.per_class_ap(w), axis=1).mean() for w in draw_weights(len(pair.videos), draws=500, seed=0)
    ]
    assert 100 * (np.mean(drawn) - result.average.value) == pytest.approx(0.95, abs=0.2)
    assert result.average.high < np.quantile(drawn, 0.975)
