"""A run's detections held against the truth, once: which of them hit, of which kind the others are, how each video fares.

judged = judge(run)
judged.hit, judged.kind         # per detection
judged.video_ap                 # per video, to sort by
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.average_precision import average_precision
from eval.detection import DetectionResult, evaluate_detections
from eval.diagnosis import ACTIVITYNET, KINDS, THUMOS14, Buckets, Diagnosis, ErrorSummary, diagnose, mean_summary
from eval.matching import NO_INSTANCE, match_detections
from formats.names import amount
from options import Options
from report.reading import ReportedRun
from utils.errors import InputError
from utils.segments import Floats, Indices, Segments

USUAL_TIOU = 0.5
HIT = KINDS.index("true positive")
UNJUDGED = -1  # the kind of a detection where nobody knows the truth


@dataclass(frozen=True, kw_only=True)
class Judged:
    """N detections and G instances in V videos; `hit` to `false_positives` are at one tIoU."""

    run: ReportedRun
    tiou: float  # of the run's thresholds the one nearest to 0.5
    result: DetectionResult | None  # None without ground truth
    hit: NDArray[np.bool_]  # [N]
    # [N] position in eval.diagnosis.KINDS; HIT too if the diagnosis leaves the instance out; UNJUDGED without a diagnosis
    kind: Indices
    diagnosis: Diagnosis | None  # None without ground truth, or if all of it is of no length or longer than its video
    # What errors are worth, as defined for the data: ActivityNet's are means over all of the run's tIoUs; None with `diagnosis`
    errors: ErrorSummary | None
    error_tious: tuple[float, ...]  # that `errors` are about
    missed: NDArray[np.bool_]  # [G] instances that no detection hits
    video_ap: Floats  # [V] mean AP over the classes with instances in the video, of its detections alone; NaN without
    false_positives: Indices  # [V] detections that hit nothing; 0 without ground truth

    @property
    def compared(self) -> str:
        """How much has been compared, in words."""
        timelines = self.run.timelines
        counts = {
            "video": len(timelines.videos),
            "instance": len(timelines.truth),
            "class": len(np.unique(timelines.truth.label)),
            "detection": len(self.run.detections),
        }
        return ", ".join(amount(count, what) for what, count in counts.items())

    @property
    def known(self) -> bool:
        """Whether there is ground truth to judge by."""
        return self.result is not None


def judged_tiou(options: Options) -> float:
    """Of the run's thresholds the one nearest to USUAL_TIOU."""
    return min(options.evaluation.tiou_grid, key=lambda t: abs(t - USUAL_TIOU))


def hits_and_misses(
    truth: Segments, detections: Segments, *, tiou: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which detections [N] find an instance, and which instances [G] none finds."""
    instance = match_detections(truth, detections, tious=(tiou,))[0]
    hit = instance != NO_INSTANCE
    missed = np.ones(len(truth), bool)
    missed[instance[hit]] = False
    return hit, missed


def judge(run: ReportedRun) -> Judged:
    """Match the detections of `run` with its ground truth."""
    truth, detections, videos = run.timelines.truth, run.detections, len(run.timelines.videos)
    tious = run.options.evaluation.tiou_grid
    tiou = judged_tiou(run.options)
    if len(truth) == 0:
        return Judged(
            run=run,
            tiou=tiou,
            result=None,
            hit=np.zeros(len(detections), bool),
            kind=np.full(len(detections), UNJUDGED),
            diagnosis=None,
            errors=None,
            error_tious=(),
            missed=np.zeros(0, bool),
            video_ap=np.full(videos, np.nan),
            false_positives=np.zeros(videos, np.int64),
        )
    hit, missed = hits_and_misses(truth, detections, tiou=tiou)
    activitynet = run.options.data.dataset.startswith("activitynet")
    diagnoses = _diagnoses(run, (tiou, *tious) if activitynet else (tiou,))
    diagnosis = diagnoses[0] if diagnoses else None
    over_all = mean_summary(diagnoses[1:]) if activitynet and diagnoses else diagnosis
    return Judged(
        run=run,
        tiou=tiou,
        result=evaluate_detections(truth, detections, num_classes=len(run.timelines.classes), tious=tious),
        hit=hit,
        kind=np.full(len(detections), UNJUDGED) if diagnosis is None else np.where(hit, HIT, diagnosis.kind),
        diagnosis=diagnosis,
        errors=over_all,
        error_tious=tious if activitynet else (tiou,),
        missed=missed,
        video_ap=ap_by_video(truth, detections, hit, num_videos=videos),
        false_positives=np.bincount(detections.video[~hit], minlength=videos),
    )


def trait_buckets(run: ReportedRun) -> Buckets:
    """Where the diagnosis of a run cuts the traits of instances."""
    return ACTIVITYNET if run.options.data.dataset.startswith("activitynet") else THUMOS14


def _diagnoses(run: ReportedRun, tious: Sequence[float]) -> list[Diagnosis]:
    """One for each tIoU; none if no instance is usable."""
    timelines = run.timelines
    try:
        return [
            diagnose(
                timelines.truth,
                run.detections,
                tiou=tiou,
                num_classes=len(timelines.classes),
                durations=timelines.seconds,
                buckets=trait_buckets(run),
            )
            for tiou in tious
        ]
    except InputError:
        return []


def ap_by_video(truth: Segments, detections: Segments, hit: NDArray[np.bool_], *, num_videos: int) -> Floats:
    """Hits [N] -> the AP of each video alone [V], mean over the classes with instances in it; NaN where there are none."""
    classes = 1 + max(truth.label.max(initial=0), detections.label.max(initial=0))
    key = detections.video * classes + detections.label
    order = np.lexsort((-detections.score, key))
    groups, instances = np.unique(truth.video * classes + truth.label, return_counts=True)
    first, stop = (np.searchsorted(key[order], groups, side=side) for side in ("left", "right"))
    hits = hit[order]
    ap = [
        average_precision(hits[None, a:b], count)[0]
        for a, b, count in zip(first.tolist(), stop.tolist(), instances.tolist(), strict=True)
    ]
    total = np.bincount(groups // classes, weights=ap, minlength=num_videos)
    count = np.bincount(groups // classes, minlength=num_videos)
    return np.divide(total, count, out=np.full(num_videos, np.nan), where=count > 0)
