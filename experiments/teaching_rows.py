"""What was seen of the teaching of actionness, as rows of teaching.csv: one per seed and evaluation.

rows = rows_of(watch, run_folder, name="base", seed=1)
write_rows(folder / FILE, rows)
rows = read_all([folder, other])
"""

import csv
import io
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from eval.tables import NOTHING, in_percent
from experiments.teaching_measures import TeachingWatch
from formats.curve_file import CURVES, read_points
from formats.names import shown
from formats.regular_files import check_regular
from formats.run_results import read_results
from utils.atomic import write_text
from utils.errors import InputError
from utils.text_table import table

FILE = "teaching.csv"
KEYS = ("seed", "step")  # whole numbers, which with the name tell one row from another
MEASURES = (
    *("epoch", "action_share", "labelled_share", "positive_precision", "background_precision", "action_recall"),
    *("auc_fused", "auc_rgb", "auc_flow", "auc_class", "actionness_on_action", "actionness_on_background"),
    *("mask_on_action", "mask_on_background", "stream_correlation", "loss", "mAP", "video_accuracy"),
)
COLUMNS = ("name", *KEYS, *MEASURES)
# Of the printed table, in percent, with its headings.
PRINTED = {
    "labelled_share": "labelled",
    "positive_precision": "right",
    "action_recall": "found",
    "auc_fused": "AUC",
    "auc_class": "AUC of class",
    "mask_on_action": "mask action",
    "mask_on_background": "background",
    "video_accuracy": "accuracy",
    "mAP": "mAP",
}
MOST_EPOCHS = 1e9
Row = Mapping[str, str | int | float]


def rows_of(watch: TeachingWatch, folder: pathlib.Path, *, name: str, seed: int) -> list[Row]:
    """The rows of a run that has ended, in its folder. Loss is the mean of the points in its curves since the row before.

    mAP is the average over the last of --average_tious, on the test videos, as is video accuracy; NaN for what there is not.
    """
    losses = [(step, value) for step, curve, value in read_points(folder / CURVES) if curve == "loss/total"]
    rows, before = list[Row](), 0
    for seen, point in zip(watch.looks, read_results(folder)["history"], strict=True):
        step = point["step"]
        since = [value for at, value in losses if before < at <= step]
        of_test = {"mAP": point["average_mAP"], "video_accuracy": point["video_accuracy"]}
        rows.append(
            {
                **{"name": name, "seed": seed, "step": step, "epoch": step / watch.steps_per_epoch},
                **seen,
                "loss": sum(since) / len(since) if since else math.nan,
                **{measure: math.nan if value is None else value for measure, value in of_test.items()},
            }
        )
        before = step
    return rows


def write_rows(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Write them with their last digits, NaN as nothing."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        values = [row[column] for column in COLUMNS]
        writer.writerow(["" if isinstance(value, float) and math.isnan(value) else value for value in values])
    write_text(path, text.getvalue())


def read_all(places: Iterable[pathlib.Path]) -> list[Row]:
    """The rows in these folders, or files, in order. Raises InputError, also for two that go by one name."""
    rows, known = list[Row](), dict[str, pathlib.Path]()
    for place in places:
        path = place / FILE if place.is_dir() else place
        read = _read(path)
        for name in dict.fromkeys(str(row["name"]) for row in read):
            if name in known:
                raise InputError(
                    f"{path}: calls its runs {shown([name])}, as {known[name]} does; make one with another --name"
                )
            known[name] = path
        rows += read
    return rows


def _read(path: pathlib.Path) -> list[Row]:
    try:
        check_regular(path)
        with open(path, newline="", encoding="utf-8") as file:
            content = list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; name a folder that experiments.teaching has written") from None
    except (UnicodeDecodeError, csv.Error):
        content = []
    if not content:
        raise InputError(f"{path}: has no rows of a CSV file; is it another program's?")
    return [_row(cells, f"{path}, row {number}") for number, cells in enumerate(content, 1)]


def _row(cells: Mapping[str, str], where: str) -> Row:
    missing = [column for column in COLUMNS if not isinstance(cells.get(column), str)]
    if missing:
        raise InputError(f"{where}: has no {missing[0]}; is it another program's?")
    row: dict[str, str | int | float] = {"name": cells["name"]}
    for column in COLUMNS[1:]:
        try:
            value = int(cells[column]) if column in KEYS else float(cells[column] or "nan")
        except ValueError:
            raise InputError(f"{where}: {column} is {shown([cells[column]])}, not a number") from None
        if math.isinf(value) or (column == "epoch" and not 0 < value <= MOST_EPOCHS):
            raise InputError(f"{where}: {column} is {shown([cells[column]])}, which can't be; is it another program's?")
        row[column] = value
    return row


def table_of(rows: Sequence[Row]) -> str:
    """A line per seed and evaluation: what matters most, in percent."""
    body = [
        [
            row["seed"],
            f"{float(row['epoch']):.4g}",
            *(in_percent(float(row[measure])) for measure in PRINTED),
            _loss(row),
        ]
        for row in rows
    ]
    return table(["seed", "epoch", *PRINTED.values(), "loss"], body, names=0)


def _loss(row: Row) -> str:
    loss = float(row["loss"])
    return NOTHING if math.isnan(loss) else f"{loss:.3f}"
