"""How sure an mAP and a difference of two are: intervals over test videos, and over the seeds of training.

    settings = {"num_classes": 20, "num_videos": 210, "tious": (0.3, 0.5), "draws": 2000}
    difference = paired_bootstrap(truth, detections_a, detections_b, **settings)     # the same videos drawn for both
    difference.average.low, difference.average.high                                  # the interval of B - A
    difference.first.average                                                         # A alone
    bca_bootstrap(truth, detections, **settings).average                             # one result
    over_seeds([0.451, 0.464, 0.458])                                                # mean, sd, t interval
    paired_over_seeds({1: 0.451, 2: 0.464}, {1: 0.449, 2: 0.470})

A draw takes as many videos as there are, with replacement. Detections are matched within their video, so that matching is done
once and a draw is a weight for each video. These intervals are the noise of the test set; that of training needs seeds.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.average_precision import envelope
from eval.matching import NO_INSTANCE, match_detections
from utils.errors import InputError
from utils.segments import Floats, Indices, Segments

DRAWS = 2000
CONFIDENCE = 0.95
MOST_LEFT_OUT = 1000  # evaluations for the acceleration of a BCa interval
NO_WIDTH = (
    1e-9  # of an interval whose draws are all the same but for rounding: they say nothing of how sure a number is
)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its interval. NaN where it can't be computed."""

    value: float
    sd: float
    low: float
    high: float

    @property
    def has_interval(self) -> bool:
        """Whether there is one, and of some width: where no draw differs from another, as with a single video, it has none."""
        return self.high - self.low > NO_WIDTH

    @property
    def is_clear(self) -> bool:
        """Whether there is an interval, and it lies on one side of 0."""
        return self.has_interval and (self.low > 0 or self.high < 0)


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Of mAP or of differences of mAP, as fractions."""

    tious: tuple[float, ...]  # [K]
    by_tiou: tuple[Estimate, ...]  # [K] mAP
    average: Estimate  # mAP, mean over the tIoUs
    by_class: tuple[Estimate, ...]  # [C] AP, mean over the tIoUs; NaN for a class without instances
    draws: int


@dataclass(frozen=True, kw_only=True)
class Difference(Estimates):
    """The second result's minus the first's, and each result's own."""

    first: Estimates
    second: Estimates


@dataclass(frozen=True, kw_only=True)
class SeedEstimate(Estimate):
    """The mean over n runs, their sd (of one run, over n - 1) and the t interval of the mean; NaN but for `value` if n is 1."""

    n: int


class WeightedEvaluation:
    """AP of one result for any weights of the videos; with weights of 1 it is that of `evaluate_detections`."""

    def __init__(
        self, truth: Segments, detections: Segments, *, num_classes: int, num_videos: int, tious: Sequence[float]
    ) -> None:
        """`num_videos` V counts those without ground truth too: all that videos are positions in."""
        order = np.lexsort((-detections.score, detections.label))
        is_hit = match_detections(truth, detections, tious=tious)[:, order] != NO_INSTANCE
        label = detections.label[order]
        self._shape = len(tious), num_classes
        self._video = detections.video[order]
        self._instances = np.zeros((num_classes, num_videos))
        np.add.at(self._instances, (truth.label, truth.video), 1)
        # The hits of each tIoU and class are a row, the best first, filled up with a place after all, which weighs nothing.
        level, place = np.nonzero(is_hit)
        row = level * num_classes + label[place]
        width = np.bincount(row, minlength=len(tious) * num_classes)
        column = np.arange(len(row)) - (np.cumsum(width) - width)[row]
        self._place = np.full((len(width), width.max(initial=1)), len(label))  # [K*C,H] in `order`
        self._place[row, column] = place
        self._next = np.minimum(self._place + 1, len(label))
        self._first = np.tile(
            np.searchsorted(label, np.arange(num_classes)), len(tious)
        )  # [K*C] place of the class's best

    def per_class_ap(self, weight: NDArray[np.integer]) -> Floats:
        """How often each video counts [V] -> AP [K,C]; NaN for a class that has no instances in these videos.

        A video of weight 2 is as two videos with the same detections, one right after the other at equal scores.
        """
        weight = weight.astype(float)
        each = np.append(weight[self._video], 0.0)
        before = np.cumsum(each) - each  # of each place and the one after all: what weight ranks before it
        hits = each[self._place]
        ranked = before[self._next] - before[self._first][:, None]
        # Where a row is filled up it is at most that of its last hit: no more is found, and no less ranks before.
        precision = np.cumsum(hits, axis=1) / np.maximum(ranked, 1)
        found = (envelope(precision) * hits).sum(1).reshape(self._shape)
        instances = self._instances @ weight
        return np.asarray(np.divide(found, instances, out=np.full(self._shape, np.nan), where=instances > 0))


def draw_weights(num_videos: int, *, draws: int, seed: int) -> Iterator[Indices]:
    """How often each video is drawn [V], `draws` times: the same for the same seed."""
    generator = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(generator.integers(0, num_videos, num_videos), minlength=num_videos)


def num_steps(num_videos: int, *, draws: int) -> int:
    """How many evaluations an interval takes: the draws, and those without a video or a group of videos."""
    return draws + min(num_videos, MOST_LEFT_OUT)


def paired_bootstrap(
    truth: Segments,
    first: Segments,
    second: Segments,
    *,
    num_classes: int,
    num_videos: int,
    tious: Sequence[float],
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    step: Callable[[], object] = lambda: None,
) -> Difference:
    """The difference `second` - `first`, both evaluated on the same videos in every draw, with its percentile interval.

    The two results' own intervals are BCa. `step` is called `num_steps` times. Raises InputError when there is no ground truth.
    """
    measures = [_measure(truth, found, num_classes, num_videos, tious) for found in (first, second)]
    values, drawn, without = _sample(measures, num_videos, draws, seed, step)
    each = [_bca(*numbers, confidence, tious) for numbers in zip(values, drawn, without, strict=True)]
    between = drawn[1] - drawn[0]
    bounds = [_quantiles(column, _levels(confidence)) for column in between.T]
    difference = _estimates(values[1] - values[0], between, bounds, tious)
    return Difference(**vars(difference), first=each[0], second=each[1])


def bca_bootstrap(
    truth: Segments,
    detections: Segments,
    *,
    num_classes: int,
    num_videos: int,
    tious: Sequence[float],
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    step: Callable[[], object] = lambda: None,
) -> Estimates:
    """mAP and AP of one result with bias-corrected, accelerated intervals (Efron 1987).

    The draws' own quantiles lie too high where classes have few videos. `step` is called `num_steps` times. Raises InputError
    when there is no ground truth.
    """
    measure = _measure(truth, detections, num_classes, num_videos, tious)
    (value,), (drawn,), (without,) = _sample([measure], num_videos, draws, seed, step)
    return _bca(value, drawn, without, confidence, tious)


def bca_levels(value: float, drawn: Floats, jackknife: Floats, *, confidence: float) -> tuple[float, float]:
    """Which quantiles of the draws [D] are the ends of the BCa interval, from the values without each video [V].

    NaN where the draws all lie on one side of the value, and where leaving out a video changes nothing.
    """
    drawn, jackknife = drawn[~np.isnan(drawn)], jackknife[~np.isnan(jackknife)]
    if len(drawn) == 0 or len(jackknife) == 0:
        return np.nan, np.nan
    bias = stats.norm.ppf(((drawn < value).mean() + (drawn <= value).mean()) / 2)
    spread = jackknife.mean() - jackknife
    scale = (spread**2).sum()
    if not np.isfinite(bias) or scale == 0:
        return np.nan, np.nan
    acceleration = (spread**3).sum() / (6 * scale**1.5)
    shifted = bias + stats.norm.ppf(_levels(confidence))
    low, high = stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))
    return float(low), float(high)


def over_seeds(values: Sequence[float], *, confidence: float = CONFIDENCE) -> SeedEstimate:
    """The mean of runs that differ in their seed alone, and its t interval, which needs two."""
    n = len(values)
    if n < 2:
        return SeedEstimate(value=float(values[0]), sd=np.nan, low=np.nan, high=np.nan, n=n)
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / n**0.5
    return SeedEstimate(value=mean, sd=sd, low=mean - half, high=mean + half, n=n)


def paired_over_seeds(
    first: Mapping[int, float], second: Mapping[int, float], *, confidence: float = CONFIDENCE
) -> SeedEstimate:
    """The mean of `second` - `first` over the seeds of both. Raises InputError when they share none."""
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise InputError("no seed is common to both: train them with the same seeds to pair them")
    return over_seeds([second[seed] - first[seed] for seed in shared], confidence=confidence)


def _measure(
    truth: Segments, detections: Segments, num_classes: int, num_videos: int, tious: Sequence[float]
) -> Callable[[Indices], Floats]:
    """What gives mAP by tIoU, their mean, and AP by class, [M] = [K + 1 + C], for weights of the videos [V]."""
    if len(truth) == 0:
        raise InputError("no ground-truth segments to evaluate against")
    evaluation = WeightedEvaluation(truth, detections, num_classes=num_classes, num_videos=num_videos, tious=tious)

    def measure(weight: Indices) -> Floats:
        ap = evaluation.per_class_ap(weight)
        has = ~np.isnan(ap[0])
        by_tiou = ap[:, has].mean(1) if has.any() else np.full(len(ap), np.nan)
        return np.concatenate([by_tiou, [by_tiou.mean()], ap.mean(0)])

    return measure


def _sample(
    measures: Sequence[Callable[[Indices], Floats]],
    num_videos: int,
    draws: int,
    seed: int,
    step: Callable[[], object],
) -> tuple[Floats, Floats, Floats]:
    """What R results have on all videos [R,M], on draws of them [R,D,M], and without each of the groups [R,L,M].

    These are single videos, or of very many MOST_LEFT_OUT groups: the sums of squares and cubes that BCa takes of them stay the
    same, but for chance.
    """
    everyone = np.ones(num_videos, np.int64)
    values = np.array([measure(everyone) for measure in measures])
    drawn, without = [], []
    for weight in draw_weights(num_videos, draws=draws, seed=seed):
        drawn.append([measure(weight) for measure in measures])
        step()
    groups = num_steps(num_videos, draws=0)
    for group in range(groups):
        weight = everyone - (np.arange(num_videos) % groups == group)
        without.append([measure(weight) for measure in measures])
        step()
    return values, np.swapaxes(drawn, 0, 1), np.swapaxes(without, 0, 1)


def _bca(value: Floats, drawn: Floats, without: Floats, confidence: float, tious: Sequence[float]) -> Estimates:
    """The measures [M] with the intervals that their draws [D,M], and leaving out videos [L,M], give."""
    bounds = [
        _quantiles(column, bca_levels(v, column, left, confidence=confidence))
        for v, column, left in zip(value, drawn.T, without.T, strict=True)
    ]
    return _estimates(value, drawn, bounds, tious)


def _levels(confidence: float) -> tuple[float, float]:
    return (1 - confidence) / 2, (1 + confidence) / 2


def _quantiles(drawn: Floats, levels: tuple[float, float]) -> tuple[float, float]:
    """The quantiles of draws [D], without those in which a class has no instances."""
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0 or np.isnan(levels).any():
        return np.nan, np.nan
    low, high = np.quantile(drawn, levels)
    return float(low), float(high)


def _estimates(
    value: Floats, drawn: Floats, bounds: Sequence[tuple[float, float]], tious: Sequence[float]
) -> Estimates:
    """Of measures [M] as `_measure` lays them out, with their draws [D,M] and the ends of their intervals."""
    each = []
    for v, column, (low, high) in zip(value.tolist(), drawn.T, bounds, strict=True):
        known = column[~np.isnan(column)]
        sd = float(known.std(ddof=1)) if len(known) > 1 else np.nan
        each.append(Estimate(value=v, sd=sd, low=low, high=high))
    k = len(tious)
    return Estimates(
        tious=tuple(tious),
        by_tiou=tuple(each[:k]),
        average=each[k],
        by_class=tuple(each[k + 1 :]),
        draws=len(drawn),
    )
