"""The measures beside mAP that `python -m eval.detection` gives where it is asked for: recall, thresholds, calibration.

for measure in measures(args, truth, detections): print(measure.text)
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.calibration import calibration
from eval.matching import NO_INSTANCE, match_detections
from eval.operating_points import operating_points
from eval.recall import MOST_PER_VIDEO, RECALL_GRID, average_recall
from eval.tables import percent
from formats.names import amount
from utils.errors import InputError
from utils.segments import Segments
from utils.text_table import table

MOST_RECALL = 10_000  # detections a video


@dataclass(frozen=True, kw_only=True)
class Measure:
    key: str  # its name in JSON
    plain: dict[str, Any]
    text: str


def check_measures(args: argparse.Namespace) -> None:
    """Raise InputError for a number that no measure is defined for."""
    for flag, tiou in (("--operating_point", args.operating_point), ("--calibration", args.calibration)):
        if tiou is not None and not 0 < tiou < 1:
            raise InputError(f"{flag} {tiou:g}: give a tIoU between 0 and 1, such as 0.5")
    for count in args.recall or ():
        if not 1 <= count <= MOST_RECALL:
            raise InputError(f"--recall {count}: give numbers of detections a video from 1 to {MOST_RECALL}")


def measures(args: argparse.Namespace, truth: Segments, detections: Segments) -> Iterator[Measure]:
    """Those that the flags of the same names ask for; hits are those of sal, whatever --protocol says."""
    if args.recall:
        yield _recall(args.recall, truth, detections)
    if args.operating_point is not None:
        yield _operating_point(args.operating_point, truth, detections)
    if args.calibration is not None:
        yield _calibration(args.calibration, truth, detections)


def _recall(counts: Sequence[int], truth: Segments, detections: Segments) -> Measure:
    counts = sorted(set(counts))
    recall = average_recall(truth, detections, most=counts[-1])
    area = average_recall(truth, detections).area
    at = {str(count): recall.at(count) for count in counts}
    listed = ", ".join(f"AR@{count} {percent(value)}" for count, value in at.items())
    return Measure(
        key="recall",
        plain={"tious": list(recall.tious), "average_recall": at, "area": area, "area_up_to": MOST_PER_VIDEO},
        text=f"recall whatever the class, tIoU {RECALL_GRID}: {listed}, area up to {MOST_PER_VIDEO} {percent(area)}",
    )


def _operating_point(tiou: float, truth: Segments, detections: Segments) -> Measure:
    best = operating_points(_hits(truth, detections, tiou), detections.score, count=len(truth)).best
    if best is None:
        return Measure(key="operating_point", plain={"tiou": tiou}, text="operating point: there are no detections")
    return Measure(
        key="operating_point",
        plain={"tiou": tiou, **asdict(best)},
        text=f"largest F1 at tIoU {tiou:g}: {percent(best.f1)}, precision {percent(best.precision)}, recall "
        f"{percent(best.recall)}, by the {amount(best.detections, 'detection')} of score {best.threshold:g} and more",
    )


def _calibration(tiou: float, truth: Segments, detections: Segments) -> Measure:
    curve = calibration(detections.score, _hits(truth, detections, tiou))
    columns = (curve.edges[:-1], curve.edges[1:], curve.count, curve.mean_score, curve.share_right)
    filled = [
        {"from": low, "to": high, "detections": count, "mean_score": score, "share_right": share}
        for low, high, count, score, share in zip(*(column.tolist() for column in columns), strict=True)
        if count
    ]
    rows = [
        [
            f"{b['from']:.3g} .. {b['to']:.3g}",
            b["detections"],
            f"{b['mean_score']:.3g}",
            f"{100 * b['share_right']:.1f}",
        ]
        for b in filled
    ]
    error = curve.expected_error if len(detections) else None
    said = f"expected error {error:.3g}" if error is not None else "there are no detections"
    lines = [f"calibration at tIoU {tiou:g}: {said}"]
    if rows:
        lines.append(table(["score", "detections", "mean score", "right %"], rows))
    return Measure(
        key="calibration", plain={"tiou": tiou, "expected_error": error, "bins": filled}, text="\n".join(lines)
    )


def _hits(truth: Segments, detections: Segments, tiou: float) -> NDArray[np.bool_]:
    return np.asarray(match_detections(truth, detections, tious=(tiou,))[0] != NO_INSTANCE)
