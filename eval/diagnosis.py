"""What kinds of errors a result has and what each is worth: the diagnosis of Alwassel et al. (ECCV 2018), and fixes.

    diagnosis = diagnose(truth, detections, tiou=0.5, num_classes=20, durations=seconds)
    print(sentence(diagnosis))                      # "localization is worth +10.0 mAP_N ..."
    diagnosis.kind                                  # [N] of every detection, a position in KINDS
    mean_summary([diagnose(..., tiou=t) for t in (0.5, 0.55)])      # the same numbers, averaged

mAP_N is mAP with normalized precision: P_N = R N / (R N + F) at each rank, with R the recall and F the false positives so far,
and N the instances per class; so a class of few instances compares with one of many. Instances of no length and those longer
than their video take no part. The fixes follow TIDE (Bolya et al., ECCV 2020). docs/diagnosis.md explains all numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.average_precision import envelope
from eval.matching import NO_INSTANCE, match_detections
from formats.names import amount
from utils.errors import InputError
from utils.segments import Floats, Indices, Segments, temporal_iou

KINDS = ("true positive", "double detection", "wrong label", "localization", "confusion", "background")
TRUE_POSITIVE, DOUBLE_DETECTION, WRONG_LABEL, LOCALIZATION, CONFUSION, BACKGROUND = range(len(KINDS))
MISSED = "missed"  # beside the kinds of false positives: instances that no detection is about

NO_BUCKET = -1  # of an instance whose trait is not known

LEAST_OVERLAP = 0.1  # a detection of a smaller tIoU with every instance is background
DEPTH = 10  # the best DEPTH * G detections of a class with G instances enter
LEAST_PRECISION = 0.05  # the P_N that a hit must exceed, or its instance is a false negative

Flags = NDArray[np.bool_]
Ties = Literal["own", "original"]


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Where the traits of instances are cut: a value at an edge lies in the smaller bucket. The ends are open."""

    coverage: tuple[float, ...]  # length of the instance / duration of its video
    length: tuple[float, ...]  # seconds
    instances: tuple[float, ...]  # how many the video has, of all classes


THUMOS14 = Buckets(coverage=(0.02, 0.04, 0.06, 0.08), length=(3, 6, 12, 18), instances=(1, 40, 80))
ACTIVITYNET = Buckets(coverage=(0.2, 0.4, 0.6, 0.8), length=(30, 60, 120, 180), instances=(1, 4, 8))
SIZES = ("XS", "S", "M", "L", "XL")


def usual_buckets(tious: Sequence[float]) -> Buckets:
    """Those of the data set whose grid of thresholds it seems to be: ActivityNet's begins at 0.5."""
    return ACTIVITYNET if len(tious) > 1 and min(tious) >= 0.5 else THUMOS14


@dataclass(frozen=True, kw_only=True)
class ErrorSummary:
    """The numbers of a diagnosis, or their means over several tIoUs. mAP_N and gains are fractions, not percent.

    They are about the best 10 G detections of each class, G its instances, but for those of all detections: `missed`,
    `average_map_n_all`, `sensitivity` and `false_negatives`. In these, {trait: {bucket: number}}, NaN is an empty bucket.
    """

    instances_per_class: float  # N
    counts: dict[str, float]  # by kind
    profile: dict[str, dict[str, float]]  # counts of the best G of each class, of the next G, and so on: "1G" .. "10G"
    average_map_n: float
    average_map_n_all: float
    removal_gains: dict[str, float]  # by kind of false positive: of mAP_N if they are deleted. Gains do not add up
    fix_gains: dict[str, float]  # by kind, and MISSED: of mAP_N if they are made right (docs/diagnosis.md)
    missed: float  # instances that nothing finds or is about
    sensitivity: dict[str, dict[str, float]]  # mAP_N when only the bucket's instances count
    false_negatives: dict[str, dict[str, float]]  # share of the bucket's instances
    bucket_sizes: dict[str, dict[str, float]]  # instances

    def as_plain(self) -> dict[str, Any]:
        """The numbers for JSON: None for NaN."""
        return {f.name: _without_nan(getattr(self, f.name)) for f in fields(ErrorSummary)}


@dataclass(frozen=True, kw_only=True)
class Diagnosis(ErrorSummary):
    """At one tIoU: the numbers, and what they are counted from."""

    kind: Indices  # [N] of every detection: its position in KINDS
    instance: Indices  # [N] the instance that it finds or, in an error, is about; NO_INSTANCE for background
    entering: Flags  # [N] whether it is among the best 10 G of its class
    is_missed: Flags  # [G]
    buckets: dict[
        str, Indices
    ]  # by trait: [G] position in SIZES; NO_BUCKET for instances without, or that take no part


def diagnose(
    truth: Segments,
    detections: Segments,
    *,
    tiou: float,
    num_classes: int,
    durations: Floats,
    ties: Ties = "own",
    buckets: Buckets = THUMOS14,
) -> Diagnosis:
    """Sort all detections into KINDS and compute what each kind is worth.

    `durations` [V] are seconds, NaN where unknown: such a video's instances are in no bucket of coverage. With `ties` "own" a
    detection that overlaps instances of several labels by the same tIoU is about one of its own label; with "original" it is
    about the first of them, as in the authors' program. Raises InputError when there is no ground truth.
    """
    length = truth.end - truth.start
    coverage = length / durations[truth.video]
    usable = np.flatnonzero((length > 0) & ~(coverage > 1))
    if len(usable) == 0:
        raise InputError("no ground-truth segments to diagnose errors against")
    traits = {
        "coverage": _bucket_of(coverage[usable], buckets.coverage),
        "length": _bucket_of(length[usable], buckets.length),
        "instances": _bucket_of(np.bincount(truth.video[usable])[truth.video[usable]], buckets.instances),
    }
    kind, about = _kinds(truth.take(usable), detections, tiou=tiou, ties=ties)
    count = np.bincount(truth.label[usable], minlength=num_classes)
    ranking = _Ranking.of(detections, kind, about, truth_label=truth.label[usable], count=count)
    best = ranking.take(ranking.rank < DEPTH * count[ranking.label])
    untouched = np.ones(len(usable), bool)
    untouched[about[about != NO_INSTANCE]] = False
    is_missed, entering = np.zeros(len(truth), bool), np.zeros(len(detections), bool)
    is_missed[usable[untouched]] = True
    bucket_of_all = {trait: np.full(len(truth), NO_BUCKET) for trait in traits}
    for trait, bucket in traits.items():
        bucket_of_all[trait][usable] = bucket
    entering[best.place] = True
    profile = np.zeros((DEPTH, len(KINDS)), np.int64)
    np.add.at(profile, (best.rank // count[best.label], best.kind), 1)
    before = best.map_n()
    removal_gains = {KINDS[k]: best.take(best.kind != k).map_n() - before for k in range(1, len(KINDS))}
    fix_gains = removal_gains | {
        KINDS[k]: best.fixed(k).map_n() - before for k in (WRONG_LABEL, LOCALIZATION, CONFUSION)
    }
    fix_gains[MISSED] = best.map_n_without(untouched) - before
    not_found = ~ranking.found(above=LEAST_PRECISION)
    return Diagnosis(
        instances_per_class=ranking.per_class,
        counts=_by_kind(profile.sum(0)),
        profile={f"{g}G": _by_kind(row) for g, row in enumerate(profile, 1)},
        average_map_n=before,
        average_map_n_all=ranking.map_n(),
        removal_gains=removal_gains,
        fix_gains=fix_gains,
        missed=float(untouched.sum()),
        sensitivity=_per_bucket(traits, buckets, lambda inside: ranking.restricted_to(inside).map_n()),
        false_negatives=_per_bucket(traits, buckets, lambda inside: float(not_found[inside].mean())),
        bucket_sizes=_per_bucket(traits, buckets, lambda inside: float(inside.sum()), empty=0.0),
        kind=kind,
        instance=np.where(about == NO_INSTANCE, NO_INSTANCE, usable[about]),
        entering=entering,
        is_missed=is_missed,
        buckets=bucket_of_all,
    )


def mean_summary(summaries: Sequence[ErrorSummary]) -> ErrorSummary:
    """The means of the numbers at several tIoUs, as the diagnosis is defined for ActivityNet."""
    return ErrorSummary(**{f.name: _mean([getattr(s, f.name) for s in summaries]) for f in fields(ErrorSummary)})


def sentence(summary: ErrorSummary) -> str:
    """What to work on, in one line: the kind of error whose removal or fix gains most, and the next."""
    worth = {kind: max(fix, summary.removal_gains.get(kind, 0.0)) for kind, fix in summary.fix_gains.items()}
    (kind, gain), (other, next_gain) = sorted(worth.items(), key=lambda one: -one[1])[:2]
    if gain <= 0:
        return f"no kind of error costs mAP_N; {amount(round(summary.missed), 'instance')} missed altogether"
    then = f"; next is {_NAMES.get(other, other)}, {100 * next_gain:+.1f}" if next_gain > 0 else ""
    return f"{_worth_of(kind, summary, least=next_gain)}{then}"


_NAMES = {MISSED: "missed instances"}
_ADVICE = {
    KINDS[WRONG_LABEL]: "with their instance's label",
    KINDS[LOCALIZATION]: "with their instance's boundaries",
    KINDS[CONFUSION]: "with their instance's label and boundaries",
}


def _worth_of(kind: str, summary: ErrorSummary, *, least: float) -> str:
    """The gain of removal, and of the fix where it differs; the fix first where removal gains less than `least`."""

    def reached(gain: float) -> str:
        return f"{100 * (summary.average_map_n + gain):.1f}"

    fix = summary.fix_gains[kind]
    if kind == MISSED:
        without = f"without the {amount(round(summary.missed), 'instance')} that nothing finds or is about"
        return f"{_NAMES[kind]} are worth {100 * fix:+.1f} mAP_N: {without} it is {reached(fix)}"
    removal = summary.removal_gains[kind]
    false = sum(summary.counts.values()) - summary.counts[KINDS[TRUE_POSITIVE]]
    these = f"these {summary.counts[kind]:,.0f} of {false:,.0f} false positives"
    if removal <= 0 or removal < least:
        return f"{kind} is worth {100 * fix:+.1f} mAP_N if fixed: {_ADVICE[kind]} for {these} it is {reached(fix)}"
    advice = f"; {_ADVICE[kind]}: {100 * fix:+.1f}" if kind in _ADVICE else ""
    return f"{kind} is worth {100 * removal:+.1f} mAP_N: without {these} it is {reached(removal)}{advice}"


def _kinds(truth: Segments, detections: Segments, *, tiou: float, ties: Ties) -> tuple[Indices, Indices]:
    """The kind [N] of each detection, and the instance [N] that it finds or is about."""
    found = match_detections(truth, detections, tious=(tiou,))[0]
    nearest, overlap = _nearest(truth, detections, prefer_own=ties == "own")
    same = truth.label[nearest] == detections.label
    near = np.where(same, DOUBLE_DETECTION, WRONG_LABEL)
    far = np.where(same, LOCALIZATION, CONFUSION)
    kind = np.select(
        [found != NO_INSTANCE, overlap >= tiou, overlap >= LEAST_OVERLAP], [TRUE_POSITIVE, near, far], BACKGROUND
    )
    about = np.select([kind == TRUE_POSITIVE, kind != BACKGROUND], [found, nearest], NO_INSTANCE)
    return kind, about


def _nearest(truth: Segments, detections: Segments, *, prefer_own: bool) -> tuple[Indices, Floats]:
    """The instance [N] of the largest tIoU in each detection's video, whatever its label, and that tIoU, 0 if it has none.

    Of equals the first; `prefer_own`: the first of those of the detection's label, if there are any.
    """
    by_video = np.argsort(truth.video, kind="stable")
    key = truth.video[by_video]
    first = np.searchsorted(key, detections.video, side="left")
    count = np.searchsorted(key, detections.video, side="right") - first
    some = np.flatnonzero(count)
    begin = np.cumsum(count[some]) - count[some]  # each one's first pair
    detection = np.repeat(some, count[some])
    instance = by_video[np.repeat(first[some] - begin, count[some]) + np.arange(len(detection))]
    overlap = temporal_iou(
        detections.start[detection], detections.end[detection], truth.start[instance], truth.end[instance]
    )
    nearest, largest = np.zeros(len(detections), np.int64), np.zeros(len(detections))
    if len(some) == 0:
        return nearest, largest
    largest[some] = np.maximum.reduceat(overlap, begin)
    place = (overlap == largest[detection]).astype(np.int64)
    if prefer_own:
        place *= 1 + (truth.label[instance] == detections.label[detection])
    of_best = np.flatnonzero(place == np.repeat(np.maximum.reduceat(place, begin), count[some]))
    nearest[some] = instance[of_best[np.searchsorted(of_best, begin)]]
    return nearest, largest


@dataclass(frozen=True, kw_only=True)
class _Ranking:
    """M detections by class, the best first, and what they are held against: G instances."""

    place: Indices  # [M] among the given detections
    label: Indices  # [M]
    score: Floats  # [M]
    kind: Indices  # [M]
    instance: Indices  # [M] that it finds or is about
    truth_label: Indices  # [G]
    count: Indices  # [C] instances that count
    per_class: float  # N

    @staticmethod
    def of(detections: Segments, kind: Indices, about: Indices, *, truth_label: Indices, count: Indices) -> "_Ranking":
        return _Ranking(
            place=np.arange(len(kind)),
            label=detections.label,
            score=detections.score,
            kind=kind,
            instance=about,
            truth_label=truth_label,
            count=count,
            per_class=len(truth_label) / np.count_nonzero(count),
        ).sorted()

    def sorted(self) -> "_Ranking":
        """Equal scores keep the given order."""
        return self.take(np.lexsort((self.place, -self.score, self.label)))

    def take(self, chosen: NDArray[Any]) -> "_Ranking":
        columns = ("place", "label", "score", "kind", "instance")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})

    @property
    def rank(self) -> Indices:
        """[M] within the class, from 0."""
        return np.arange(len(self.label)) - np.searchsorted(self.label, self.label)

    @property
    def hit(self) -> Flags:
        return self.kind == TRUE_POSITIVE

    def precision(self) -> Floats:
        """P_N [M]. Every class of a detection must have instances."""
        rank = self.rank
        total = np.cumsum(self.hit)
        found: Indices = total - (total - self.hit)[np.arange(len(rank)) - rank]
        weighted = found / self.count[self.label] * self.per_class
        return np.asarray(weighted / (weighted + (rank + 1 - found)))

    def average_precision(self) -> Floats:
        """AP_N [C]: the area under the interpolated curve; NaN for classes without instances that count."""
        counted = self.take(self.count[self.label] > 0)
        precision, hit = counted.precision(), counted.hit
        area = np.full(len(self.count), np.nan)
        bounds = np.searchsorted(counted.label, np.arange(len(self.count) + 1))
        for c in np.flatnonzero(self.count):
            mine = slice(bounds[c], bounds[c + 1])
            area[c] = envelope(precision[mine])[hit[mine]].sum() / self.count[c]
        return area

    def map_n(self) -> float:
        return float(np.nanmean(self.average_precision()))

    def found(self, *, above: float) -> Flags:
        """[G] the instances of the hits whose P_N is above a least precision."""
        counted = self.take(self.count[self.label] > 0)
        found = np.zeros(len(self.truth_label), bool)
        found[counted.instance[counted.hit & (counted.precision() > above)]] = True
        return found

    def restricted_to(self, inside: Flags) -> "_Ranking":
        """Without the other instances and the detections that find them; N stays."""
        count = np.bincount(self.truth_label[inside], minlength=len(self.count))
        return replace(self.take(~self.hit | inside[self.instance]), count=count)

    def fixed(self, kind: int) -> "_Ranking":
        """With the errors of a kind made right: each gets the label and the boundaries of its instance, and keeps its score.

        So it is a hit, if none of the ranking has that instance and it is the best of the kind that is about it; else it would
        be a double detection, and is deleted.
        """
        wrong = np.flatnonzero(self.kind == kind)
        taken = np.zeros(len(self.truth_label), bool)
        taken[self.instance[self.hit]] = True
        wrong = wrong[~taken[self.instance[wrong]]]
        wrong = wrong[np.lexsort((self.place[wrong], -self.score[wrong]))]
        _, first = np.unique(self.instance[wrong], return_index=True)
        right = wrong[first]
        new_kind, new_label = self.kind.copy(), self.label.copy()
        new_kind[right] = TRUE_POSITIVE
        new_label[right] = self.truth_label[self.instance[right]]
        mended = replace(self, kind=new_kind, label=new_label)
        return mended.take(new_kind != kind).sorted()

    def map_n_without(self, missed: Flags) -> float:
        """mAP_N if missed instances [G] are not asked for, as TIDE fixes them; a class with no others then counts as 1."""
        fewer = replace(self, count=np.bincount(self.truth_label[~missed], minlength=len(self.count)))
        area = fewer.average_precision()
        area[(fewer.count == 0) & (self.count > 0)] = 1
        return float(np.nanmean(area))


def _bucket_of(values: NDArray[Any], edges: tuple[float, ...]) -> Indices:
    """The bucket of each value, from 0; NO_BUCKET for NaN."""
    return np.where(np.isnan(values), NO_BUCKET, np.searchsorted(edges, values, side="left"))


def _per_bucket(
    traits: Mapping[str, Indices], buckets: Buckets, number: Callable[[Flags], float], *, empty: float = math.nan
) -> dict[str, dict[str, float]]:
    """{trait: {bucket: number(instances in it [G])}}; `empty` where it has none."""
    return {
        trait: {
            size: number(bucket == i) if (bucket == i).any() else empty
            for i, size in enumerate(SIZES[: len(getattr(buckets, trait)) + 1])
        }
        for trait, bucket in traits.items()
    }


def _by_kind(counts: Indices) -> dict[str, float]:
    return {name: float(count) for name, count in zip(KINDS, counts, strict=True)}


def _mean(values: Sequence[Any]) -> Any:
    """The mean of numbers, or of each entry of dicts with the same keys."""
    if isinstance(values[0], dict):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    return float(np.mean(values))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    return None if math.isnan(value) else value
