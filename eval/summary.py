"""An evaluation in numbers, as in results.json, and the table a run ends with."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eval.detection import DetectionResult
from eval.tables import map_table, percent
from utils.ranges import parse_span


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary:
    """One evaluation; fractions, not percent, and None where annotations are missing."""

    mAP: dict[str, float] | None  # by tIoU; the names are those of results.json
    average_mAP: dict[str, float] | None  # by span of tIoU, "0.1:0.7"
    video_accuracy: float | None
    per_class_AP: dict[str, dict[str, float]] | None  # by class and tIoU

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
) -> EvaluationSummary:
    """Collect what was computed: no `result` without segments in test, no `video_accuracy` without labels."""
    return EvaluationSummary(
        mAP=result.map_by_tiou() if result else None,
        average_mAP={span: result.average_map(*parse_span(span)) for span in average_tious} if result else None,
        video_accuracy=video_accuracy,
        per_class_AP=result.ap_by_class(classes) if result else None,
    )


def evaluation_report(rows: Mapping[str, EvaluationSummary]) -> str:
    """Lay out {row name: evaluation} as the table that a run ends with, and a line of video accuracies."""
    measured = {
        name: (row.mAP, row.average_mAP)
        for name, row in rows.items()
        if row.mAP is not None and row.average_mAP is not None
    }
    table = map_table(measured) if measured else "mAP: not computed, no test video has temporal annotations"
    known = [f"{name} {percent(row.video_accuracy)}" for name, row in rows.items() if row.video_accuracy is not None]
    return f"{table}\nvideo accuracy: {', '.join(known) or 'not computed, no test video has labels'}"
