"""The tables a run ends with, in percent."""

from collections.abc import Iterable, Mapping
from typing import Any

from utils.text_table import table


def map_table(rows: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]) -> str:
    """{row name: ({tIoU: mAP}, {span: average mAP})}, fractions -> a table in percent, averages on the right."""
    by_tiou, averages = next(iter(rows.values()))
    header = ["tIoU", *by_tiou, *(f"avg {span}" for span in averages)]
    body = [[name, *_percent(values.values()), *_percent(means.values())] for name, (values, means) in rows.items()]
    return table(header, body)


def evaluation_report(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """{row name: summary of an evaluation, as in results.json} -> the table, then a line of video accuracies."""
    measured = {name: (row["mAP"], row["average_mAP"]) for name, row in rows.items() if row["mAP"] is not None}
    table = map_table(measured) if measured else "mAP: not computed, no test video has temporal annotations"
    known = [
        f"{name} {percent(row['video_accuracy'])}" for name, row in rows.items() if row["video_accuracy"] is not None
    ]
    return f"{table}\nvideo accuracy: {', '.join(known) or 'not computed, no test video has labels'}"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def per_class_table(per_class_ap: Mapping[str, Mapping[str, float]]) -> str:
    """{class: {tIoU: AP}}, fractions -> a table in percent with the mean over the tIoUs on the right."""
    tious = list(next(iter(per_class_ap.values())))
    body = [
        [name, *_percent(values.values()), *_percent([sum(values.values()) / len(values)])]
        for name, values in per_class_ap.items()
    ]
    return table(["AP per class", *tious, "mean"], body)


def _percent(fractions: Iterable[float]) -> list[str]:
    return [f"{100 * value:.1f}" for value in fractions]
