"""Tables of runs: mAP per tIoU and averages, runs that differ in their seed alone as one method with mean and deviation.

    python -m eval tables output/a-seed0 output/a-seed1 output/b --format latex --out table.tex

    runs = [read_table_run(folder) for folder in folders]
    frame = table_of(methods(runs), which=("best", "last")) # a pandas.DataFrame, fractions
    print(as_markdown(frame, caption_of(runs)))             # or as_latex, as_csv, as_text

Inference folders (output/EXPERIMENT/inference) are runs too. docs/diagnosis.md says what the columns are.
"""

import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from command_line.parser import CommandParser
from eval.statistics import CONFIDENCE, SeedEstimate, over_seeds, paired_over_seeds
from eval.summary import counts_of_truth, ground_of_map
from eval.table_markup import escape_latex, escape_markdown, latex_table, markdown_table
from eval.table_runs import TableRun, methods, read_table_run
from formats.names import amount
from formats.run_results import INFERENCE, OF_A_RUN, QUEUE_LOGS, RESULTS, VAL
from utils.atomic import write_text
from utils.errors import InputError
from utils.printable import one_line
from utils.text_table import table

MOST_PAIRED = 6  # methods whose differences are all told; of more there would be too many
# The first columns; then measures, and "MEASURE sd" for each.
KEYS = ["method", "evaluation", "runs", "mean detections"]


@dataclass(frozen=True, kw_only=True)
class RunTable:
    """The table of several runs, and what its reader should know."""

    frame: pd.DataFrame  # as table_of makes it
    caption: str
    notes: list[str]


def tabulate(folders: Sequence[pathlib.Path], *, which: Sequence[str] = OF_A_RUN) -> RunTable:
    """Raises InputError for folders without usable results, and for runs whose numbers belong in no common table."""
    runs = [read_table_run(folder, which=which) for folder in folders]
    check_comparable(runs, folders)
    grouped = methods(runs)
    return RunTable(
        frame=table_of(grouped, which=which), caption=caption_of(runs), notes=notes_on(grouped, which=which)
    )


def check_comparable(runs: Sequence[TableRun], folders: Sequence[pathlib.Path]) -> None:
    """Raise InputError for runs whose numbers belong in no common table: of other data, classes, videos, instances or tIoUs.

    Those that state no classes (an inference) or no videos and instances (earlier versions) are compared by the rest.
    """
    stated: dict[str, tuple[object, str, str]] = {}  # fact -> its value, where it is first stated, and of which data
    for run, folder in zip(runs, folders, strict=True):
        for evaluation, measures in run.measures.items():
            place = f"{folder}, {evaluation},"
            data = _data_of(run.data, len(run.classes), run.compared.get(evaluation, {}))
            for name, fact in _facts(run, evaluation):
                known, where, of = stated.setdefault(name, (fact, place, data))
                if fact != known:
                    raise InputError(f"{where} and {place} are of different data ({of}; {data}); make a table of each")
            tious = ", ".join(measures)
            known, where, _ = stated.setdefault("tIoUs", (tious, place, data))
            if tious != known:
                raise InputError(
                    f"{where} and {place} are of different tIoUs ({known} and {tious}); evaluate one again by "
                    "--inference_only with the other's --tious and --average_tious"
                )


def _facts(run: TableRun, evaluation: str) -> Iterator[tuple[str, object]]:
    """What must be the same in all evaluations of a table, as far as this one states it."""
    yield "data", run.data
    if run.classes:
        yield "classes", run.classes
    if evaluation in run.compared:
        yield "videos", run.compared[evaluation]["videos"]
        yield "instances", run.compared[evaluation]["instances"]


def caption_of(runs: Sequence[TableRun]) -> str:
    """What the numbers of comparable runs are; of how many videos and instances only if every run states it."""
    counts = next(iter(runs[0].compared.values())) if all(run.states_compared for run in runs) else {}
    classes = max(len(run.classes) for run in runs) if counts or all(run.classes for run in runs) else 0
    return f"mAP {ground_of_map(counts)}, {_data_of(runs[0].data, classes, {})}"


def _data_of(data: str, classes: int, counts: Mapping[str, int]) -> str:
    known = [*counts_of_truth(counts), *([amount(classes, "class")] if classes else [])]
    return ", ".join([f"data {one_line(data)}", *known])


def table_of(grouped: Mapping[str, Sequence[TableRun]], *, which: Sequence[str]) -> pd.DataFrame:
    """A row per method and evaluation: KEYS, then the mean over its runs of each measure and its sd, as fractions.

    `grouped` is methods(runs). The mean number of detections is empty if a run states none. `which` chooses among OF_A_RUN and
    VAL; the one evaluation of an inference is always there. sd is NaN for one run.
    """
    rows = []
    for method, members in grouped.items():
        for evaluation in (*which, INFERENCE):
            of = [run for run in members if evaluation in run.measures]
            if of:
                row = dict(zip(KEYS, (method, evaluation, len(of), _mean_detections(of, evaluation)), strict=True))
                for measure in of[0].measures[evaluation]:
                    estimate = over_seeds([run.measures[evaluation][measure] for run in of])
                    row |= {measure: estimate.value, f"{measure} sd": estimate.sd}
                rows.append(row)
    return pd.DataFrame(rows)


def _mean_detections(runs: Sequence[TableRun], evaluation: str) -> str:
    counts = [run.compared[evaluation]["detections"] for run in runs if evaluation in run.compared]
    return f"{sum(counts) / len(counts):.1f}".removesuffix(".0") if len(counts) == len(runs) else ""


def notes_on(grouped: Mapping[str, Sequence[TableRun]], *, which: Sequence[str]) -> list[str]:
    """What a reader of the table of methods should know: what a run does not state, intervals, and where there are none."""
    runs = [run for members in grouped.values() for run in members]
    notes, silent = [], [run.name for run in runs if not run.states_compared]
    if silent:
        notes.append(
            f"{', '.join(silent)}: {'states' if len(silent) == 1 else 'state'} no videos, instances and detections, which "
            "may be others than elsewhere in the table; evaluate again by --inference_only and name the inference folder"
        )
    intervals = [note for evaluation in (*which, INFERENCE) for note in _intervals(grouped, evaluation)]
    if len(grouped) > MOST_PAIRED:
        notes.append(f"differences are of up to {MOST_PAIRED} methods; make a table of those to be compared")
    if intervals:
        measure = list(next(iter(runs[0].measures.values())))[-1]
        notes += [f"intervals are of {measure}, {CONFIDENCE:.0%}, by Student's t", *intervals]
    single = [name for name, members in grouped.items() if len(members) == 1]
    if single:
        each, them = ("one run", "it") if len(single) == 1 else ("one run each", "them")
        notes.append(f"{', '.join(single)}: {each}, so no deviation and no interval; train {them} with other seeds too")
    if "best" in which and any("best" in run.measures for run in runs):
        notes.append("best is chosen by its mAP on these very videos; compare methods by last")
    if VAL in which and any(VAL in run.measures for run in runs):
        notes.append(
            f"{VAL} is chosen by the loss on training videos that its runs hold out: they train on fewer than others"
        )
    return notes


def _intervals(grouped: Mapping[str, Sequence[TableRun]], evaluation: str) -> Iterator[str]:
    """Over the seeds of each method, and of the differences between methods, of the measure by which best is chosen."""
    values = {
        name: {
            run.seed: list(run.measures[evaluation].values())[-1]
            for run in members
            if run.seed is not None and evaluation in run.measures
        }
        for name, members in grouped.items()
    }
    several = {name: by_seed for name, by_seed in values.items() if len(by_seed) > 1}
    for name, by_seed in several.items():
        estimate = over_seeds(list(by_seed.values()))
        yield f"{name}, {evaluation}: {_in_words(estimate)} over {amount(estimate.n, 'seed')}"
    for (base, reference), (name, others) in combinations(several.items(), 2) if len(several) <= MOST_PAIRED else ():
        if len(reference.keys() & others.keys()) > 1:
            estimate = paired_over_seeds(reference, others)
            yield f"{name} - {base}, {evaluation}: {_in_words(estimate, '+')} over {amount(estimate.n, 'common seed')}"


def _in_words(estimate: SeedEstimate, sign: str = "") -> str:
    value, low, high = (f"{100 * number:{sign}.2f}" for number in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A measure of a row, for people."""

    mean: str  # percent
    sd: str  # empty for one run
    is_best: bool  # of several methods in the same evaluation


def cells_of(frame: pd.DataFrame) -> list[list[Cell]]:
    """The measures of each row. The best are those that round to the same as the best."""
    measures = _measure_columns(frame)
    rounded = (100 * frame[measures]).round(1)
    best = rounded.groupby(frame["evaluation"]).transform("max")
    several = frame.groupby("evaluation")["method"].transform("size") > 1
    return [
        [
            Cell(
                mean=f"{rounded.loc[row, name]:.1f}",
                sd="" if pd.isna(frame.loc[row, f"{name} sd"]) else f"{100 * frame.loc[row, f'{name} sd']:.1f}",
                is_best=bool(several[row] and rounded.loc[row, name] == best.loc[row, name]),
            )
            for name in measures
        ]
        for row in frame.index
    ]


def _measure_columns(frame: pd.DataFrame) -> list[str]:
    return [name for name in frame.columns if name not in KEYS and not name.endswith(" sd")]


def as_text(frame: pd.DataFrame, caption: str) -> str:
    rows = [
        [*_keys(row), *(f"{c.mean}{f' ± {c.sd}' if c.sd else ''}{'*' if c.is_best else ' '}" for c in cells)]
        for row, cells in zip(frame[KEYS].itertuples(index=False), cells_of(frame), strict=True)
    ]
    return f"{caption}, in percent; * is the best\n\n{table([*KEYS, *_measure_columns(frame)], rows, names=2)}\n"


def as_markdown(frame: pd.DataFrame, caption: str) -> str:
    measures = _measure_columns(frame)
    rows = []
    for row, cells in zip(frame[KEYS].itertuples(index=False), cells_of(frame), strict=True):
        means = [f"**{c.mean}**" if c.is_best else c.mean for c in cells]
        shown = [f"{mean} ± {c.sd}" if c.sd else mean for mean, c in zip(means, cells, strict=True)]
        rows.append([*map(escape_markdown, _keys(row)), *shown])
    return f"{escape_markdown(caption)}, in percent\n\n" + markdown_table([*KEYS, *measures], rows, names=2)


def as_latex(frame: pd.DataFrame, caption: str) -> str:
    """A table with its caption, for a paper that uses the package booktabs."""
    rows = []
    for row, cells in zip(frame[KEYS].itertuples(index=False), cells_of(frame), strict=True):
        means = [f"\\textbf{{{c.mean}}}" if c.is_best else c.mean for c in cells]
        shown = [f"{mean} $\\pm$ {c.sd}" if c.sd else mean for mean, c in zip(means, cells, strict=True)]
        rows.append([*map(escape_latex, _keys(row)), *shown])
    header = [escape_latex(name) for name in (*KEYS, *_measure_columns(frame))]
    return latex_table(header, rows, names=2, caption=f"{escape_latex(caption)}, in percent")


def as_csv(frame: pd.DataFrame, caption: str) -> str:
    """All digits; the caption is a column."""
    safe = frame.assign(method=[one_line(name) for name in frame["method"]], about=f"{caption}, as fractions")
    return str(safe.to_csv(index=False))


FORMATS: Mapping[str, Callable[[pd.DataFrame, str], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "latex": as_latex,
    "csv": as_csv,
}


def _keys(row: Any) -> list[str]:
    return [one_line(str(value)) for value in row]


def run_folders(paths: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The folders of runs, once each: a queue's folder stands for those of its runs that have results, its logs for none."""
    folders = dict[pathlib.Path, pathlib.Path]()
    for path in paths:
        of_queue = (path / QUEUE_LOGS).is_dir() and not (path / RESULTS).exists()
        for folder in sorted(file.parent for file in path.glob(f"*/{RESULTS}")) if of_queue else [path]:
            folders[folder.resolve()] = folder
    return [folder for folder in folders.values() if folder.name != QUEUE_LOGS] or list(paths)


def print_table(arguments: Sequence[str]) -> None:
    parser = CommandParser(
        "python -m eval tables", "mAP of runs; those that differ in their seed alone are one method."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=pathlib.Path,
        metavar="RUN",
        help="folder of a run, of its inference, or of a queue's runs",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="(default: %(default)s)")
    parser.add_argument(
        "--which",
        choices=(*OF_A_RUN, VAL, "both", "all"),
        default="all",
        help="evaluation of a run: its best, which is chosen by this very mAP, its last, both of these, the one chosen by "
        "held-out training videos (val), or all that it has (default: %(default)s)",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="write the table there; notes are printed")
    args = parser.parse_args(arguments)
    which = {"both": OF_A_RUN, "all": (*OF_A_RUN, VAL)}.get(args.which, (args.which,))
    made = tabulate(run_folders(args.runs), which=which)
    text = FORMATS[args.format](made.frame, made.caption)
    if args.out:
        write_text(args.out, text)
        print(f"{args.out}: written")
    else:
        print(text, end="")
    for note in made.notes:
        print(f"note: {one_line(note)}", file=sys.stdout if args.out or args.format == "text" else sys.stderr)
