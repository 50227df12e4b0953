"""Tables of mAP and AP, in percent."""

import math
from collections.abc import Mapping, Sequence

from utils.text_table import table

NOTHING = "-"  # in the place of a number that there is not


def map_table(rows: Mapping[str, tuple[Mapping[str, float], Mapping[str, float]]]) -> str:
    """Lay out {row name: ({tIoU: mAP}, {span: average mAP})}, given as fractions, in percent, averages on the right."""
    by_tiou, averages = next(iter(rows.values()))
    header = ["tIoU", *by_tiou, *(f"avg {span}" for span in averages)]
    body = [
        [name, *map(in_percent, values.values()), *map(in_percent, means.values())]
        for name, (values, means) in rows.items()
    ]
    return table(header, body)


def protocol_table(
    rows: Mapping[str, tuple[Sequence[int], Mapping[str, float], Mapping[str, float]] | None], counted: Sequence[str]
) -> str:
    """Lay out {protocol: (how many of each that is `counted`, {tIoU: mAP}, {span: average mAP})} as map_table does.

    A row that is None is one of NOTHING.
    """
    _, by_tiou, averages = next(row for row in rows.values() if row)
    header = ["mAP % by", *counted, *by_tiou, *(f"avg {span}" for span in averages)]
    body = [
        [name, *row[0], *map(in_percent, row[1].values()), *map(in_percent, row[2].values())]
        if row
        else [name, *(NOTHING for _ in header[1:])]
        for name, row in rows.items()
    ]
    return table(header, body)


def in_percent(fraction: float) -> str:
    """The number alone; NOTHING for NaN."""
    return NOTHING if math.isnan(fraction) else f"{100 * fraction:.1f}"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def per_class_table(per_class_ap: Mapping[str, Mapping[str, float]]) -> str:
    """Lay out {class: {tIoU: AP}}, given as fractions, in percent, the mean over the tIoUs on the right."""
    tious = list(next(iter(per_class_ap.values())))
    body = [
        [name, *map(in_percent, values.values()), in_percent(sum(values.values()) / len(values))]
        for name, values in per_class_ap.items()
    ]
    return table(["AP per class", *tious, "mean"], body)
