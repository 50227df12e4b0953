"""An evaluation in numbers, as in results.json, and the table a run ends with."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.detection import DetectionResult
from eval.protocols import PROTOCOLS
from eval.tables import map_table, percent
from formats.names import amount
from utils.ranges import parse_span


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary:
    """One evaluation; fractions, not percent, and None where annotations are missing."""

    mAP: dict[str, float] | None  # by tIoU; the names are those of results.json
    average_mAP: dict[str, float] | None  # by span of tIoU, "0.1:0.7"
    video_accuracy: float | None
    per_class_AP: dict[str, dict[str, float]] | None  # by class and tIoU
    compared: dict[str, int] | None = None  # how many of each of formats.run_results.COMPARED the mAP is of

    def totals(self) -> dict[str, Any]:
        """Everything but the AP of single classes."""
        return {name: value for name, value in self.as_plain().items() if name != "per_class_AP"}

    def as_plain(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @staticmethod
    def from_plain(plain: Mapping[str, Any]) -> "EvaluationSummary":
        return EvaluationSummary(**{f.name: plain.get(f.name) for f in dataclasses.fields(EvaluationSummary)})


def summarize(
    result: DetectionResult | None,
    *,
    video_accuracy: float | None,
    average_tious: Sequence[str],
    classes: Sequence[str],
    compared: Mapping[str, int] | None = None,
) -> EvaluationSummary:
    """Collect what was computed: no `result` without segments in test, no `video_accuracy` without labels."""
    return EvaluationSummary(
        mAP=result.map_by_tiou() if result else None,
        average_mAP={span: result.average_map(*parse_span(span)) for span in average_tious} if result else None,
        video_accuracy=video_accuracy,
        per_class_AP=result.ap_by_class(classes) if result else None,
        compared=dict(compared) if result and compared else None,
    )


def evaluation_report(rows: Mapping[str, EvaluationSummary]) -> str:
    """Lay out {row name: evaluation} as the table that a run ends with, and a line of video accuracies."""
    measured = {
        name: (row.mAP, row.average_mAP)
        for name, row in rows.items()
        if row.mAP is not None and row.average_mAP is not None
    }
    table = map_table(measured) if measured else "mAP: not computed, no test video has temporal annotations"
    table = "\n".join([*_compared({name: rows[name].compared for name in measured}), table])
    known = [f"{name} {percent(row.video_accuracy)}" for name, row in rows.items() if row.video_accuracy is not None]
    return f"{table}\nvideo accuracy: {', '.join(known) or 'not computed, no test video has labels'}"


def _compared(rows: Mapping[str, Mapping[str, int] | None]) -> Iterator[str]:
    """A line on what the rows of a table are mAP of; none where an older program has not kept it."""
    known = {name: counts for name, counts in rows.items() if counts}
    if known:
        first = next(iter(known.values()))
        detections = ", ".join(f"{name} {counts['detections']}" for name, counts in known.items())
        yield f"mAP % {ground_of_map(first)}, detections: {detections}"


def ground_of_map(compared: Mapping[str, int]) -> str:
    """By what and of what runs measure mAP: "by protocol sal, 10 videos, 30 instances"; without counts if there are none."""
    return ", ".join([f"by protocol {PROTOCOLS['sal'].name}", *counts_of_truth(compared)])


def counts_of_truth(compared: Mapping[str, int]) -> list[str]:
    return [amount(compared[f"{what}s"], what) for what in ("video", "instance") if compared]
