"""Precision, recall and average precision from hits: detections in descending score, each right or wrong.

    ap = average_precision(is_hit, count)                         # [K,N] -> [K]: the area under the interpolated curve
    curve = pr_curve(is_hit, score, count=count)                  # one class at one tIoU, as arrays to draw
    curves = pr_curves(is_hit, ground_truth, detections, num_classes=20)

Evaluators differ in what they make of the same hits (eval/protocols.py says whose rule is which).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from utils.ranges import in_span
from utils.segments import Floats, Segments

Flags = NDArray[np.bool_]
RECALLS = np.linspace(0, 1, 11)  # that the 11-point rule of PASCAL VOC 2007 looks at


def envelope(precision: Floats) -> Floats:
    """Precision [...,N] -> the highest precision at each place or after it [...,N]."""
    return np.asarray(np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1])


def average_precision(true_positive: Flags, ground_truth_count: int) -> Floats:
    """Hits [K,N] in descending score -> AP [K]: the area under the interpolated precision-recall curve.

    Recall rises only at hits, by 1 / count each, so the area is the sum of the interpolated precision at hits, over count.
    """
    precision = np.cumsum(true_positive, axis=1) / np.arange(1, true_positive.shape[1] + 1)
    return np.asarray((envelope(precision) * true_positive).sum(1) / ground_truth_count)


def raw_average_precision(true_positive: Flags, ground_truth_count: int) -> Floats:
    """Hits [K,N] in descending score -> AP [K]: the sum of the precision at hits as it is, over count."""
    precision = np.cumsum(true_positive, axis=1) / np.arange(1, true_positive.shape[1] + 1)
    return np.asarray((precision * true_positive).sum(1) / ground_truth_count)


def eleven_point_average_precision(true_positive: Flags, ground_truth_count: int) -> Floats:
    """Hits [K,N] in descending score -> AP [K]: the mean of the interpolated precision at a recall of 0, 0.1 .. 1.

    The tenths are what floating point makes of 0.1 i, as in other programs: 3 of 10 instances stay below the fourth of them.
    """
    hits = np.cumsum(true_positive, axis=1)
    interpolated = envelope(hits / np.arange(1, hits.shape[1] + 1))
    interpolated = np.hstack([interpolated, np.zeros((len(hits), 1))])  # a recall that is never reached
    reached = [np.searchsorted(row / ground_truth_count, RECALLS) for row in hits]
    return np.array([row[at].mean() for row, at in zip(interpolated, reached, strict=True)])


def per_class_ap(
    is_hit: Flags,
    ground_truth: Segments,
    detections: Segments,
    *,
    num_classes: int,
    rule: Callable[[Flags, int], Floats] = average_precision,
    counted: Flags | None = None,
) -> Floats:
    """AP [K,C] from the hits [K,N] of all detections; NaN for classes without ground truth.

    Equal scores keep the given order. Detections that are not `counted` [K,N] are as if they were not there.
    """
    order = np.lexsort((-detections.score, detections.label))  # by class, best score first
    bounds = np.searchsorted(detections.label[order], np.arange(num_classes + 1))
    ap = np.full((len(is_hit), num_classes), np.nan)
    for c, count in enumerate(np.bincount(ground_truth.label, minlength=num_classes).tolist()):
        if not count:
            continue
        mine = order[bounds[c] : bounds[c + 1]]
        if counted is None:
            ap[:, c] = rule(is_hit[:, mine], count)
        else:
            ap[:, c] = [rule(row[None, mine[seen[mine]]], count)[0] for row, seen in zip(is_hit, counted, strict=True)]
    return ap


INTERPOLATED, RAW, ELEVEN_POINT = "interpolated", "raw precision at hits", "11-point"
AP_RULES: Mapping[str, Callable[[Flags, int], Floats]] = MappingProxyType(
    {
        INTERPOLATED: average_precision,
        RAW: raw_average_precision,
        ELEVEN_POINT: eleven_point_average_precision,
    }
)


@dataclass(frozen=True, kw_only=True)
class DetectionResult:
    """mAP and AP as fractions, not percent."""

    tious: tuple[float, ...]  # [K]
    per_class_ap: NDArray[np.float64]  # [K,C]; NaN for classes without ground truth

    @property
    def map(self) -> NDArray[np.float64]:
        """mAP per tIoU [K]: the mean over the classes that have ground truth."""
        return np.asarray(np.nanmean(self.per_class_ap, axis=1))

    def average_map(self, low: float = 0.0, high: float = 1.0) -> float:
        """The mean mAP over the tIoUs within low .. high, both included."""
        inside = [in_span(tiou, (low, high)) for tiou in self.tious]
        return float(self.map[inside].mean())

    def map_by_tiou(self) -> dict[str, float]:
        return {f"{t:g}": float(m) for t, m in zip(self.tious, self.map, strict=True)}

    def ap_by_class(self, classes: Sequence[str]) -> dict[str, dict[str, float]]:
        """{class: {tIoU: AP}} of the classes that have ground truth."""
        return {
            name: {f"{t:g}": float(ap) for t, ap in zip(self.tious, column, strict=True)}
            for name, column in zip(classes, self.per_class_ap.T, strict=True)
            if not np.isnan(column).any()
        }


@dataclass(frozen=True, kw_only=True)
class PrecisionRecallCurve:
    """One point a detection, in descending score."""

    score: Floats  # [N]
    precision: Floats  # [N] of the detections up to this one
    interpolated: Floats  # [N] the highest precision at this recall or beyond
    recall: Floats  # [N]


def pr_curve(is_hit: Flags, score: Floats, *, count: int) -> PrecisionRecallCurve:
    """The curve of N detections in any order, `count` instances being there to find; equal scores keep their order."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(is_hit[order])
    precision = hits / np.arange(1, len(hits) + 1)
    return PrecisionRecallCurve(
        score=score[order],
        precision=precision,
        interpolated=envelope(precision),
        recall=hits / count,
    )


def pr_curves(
    is_hit: Flags, ground_truth: Segments, detections: Segments, *, num_classes: int
) -> list[PrecisionRecallCurve | None]:
    """The curve of every class [C], from the hits [N] of all detections; None for a class without ground truth."""
    counts = np.bincount(ground_truth.label, minlength=num_classes).tolist()
    curves: list[PrecisionRecallCurve | None] = []
    for label, count in enumerate(counts):
        mine = np.flatnonzero(detections.label == label)
        curves.append(pr_curve(is_hit[mine], detections.score[mine], count=count) if count else None)
    return curves
