"""Tables of mAP and AP, in percent."""

from collections.abc import Iterable, Mapping, Sequence

from utils.text_table import table


def map_table(rows: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]) -> str:
    """Lay out {row name: ({tIoU: mAP}, {span: average mAP})}, given as fractions, in percent, averages on the right."""
    by_tiou, averages = next(iter(rows.values()))
    header = ["tIoU", *by_tiou, *(f"avg {span}" for span in averages)]
    body = [[name, *_percent(values.values()), *_percent(means.values())] for name, (values, means) in rows.items()]
    return table(header, body)


def protocol_table(
    rows: Mapping[str, tuple[Sequence[int], Mapping[str, float], Mapping[str, float]]], counted: Sequence[str]
) -> str:
    """Lay out {protocol: (how many of each that is `counted`, {tIoU: mAP}, {span: average mAP})} as map_table does."""
    _, by_tiou, averages = next(iter(rows.values()))
    header = ["mAP % by", *counted, *by_tiou, *(f"avg {span}" for span in averages)]
    body = [
        [name, *counts, *_percent(values.values()), *_percent(means.values())]
        for name, (counts, values, means) in rows.items()
    ]
    return table(header, body)


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def per_class_table(per_class_ap: Mapping[str, Mapping[str, float]]) -> str:
    """Lay out {class: {tIoU: AP}}, given as fractions, in percent, the mean over the tIoUs on the right."""
    tious = list(next(iter(per_class_ap.values())))
    body = [
        [name, *_percent(values.values()), *_percent([sum(values.values()) / len(values)])]
        for name, values in per_class_ap.items()
    ]
    return table(["AP per class", *tious, "mean"], body)


def _percent(fractions: Iterable[float]) -> list[str]:
    return [f"{100 * value:.1f}" for value in fractions]
