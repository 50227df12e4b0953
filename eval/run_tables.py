"""Tables of runs: mAP per tIoU and averages, runs that differ in their seed alone as one method with mean and deviation.

    python -m eval tables output/a-seed0 output/a-seed1 output/b --format latex --out table.tex

    runs = [read_table_run(folder) for folder in folders]
    frame = table_of(runs, which=("best", "last"))          # a pandas.DataFrame, fractions
    print(as_markdown(frame, caption_of(runs)))             # or as_latex, as_csv, as_text

Inference folders (output/EXPERIMENT/inference) are runs too. docs/diagnosis.md says what the columns are.
"""

import json
import os
import pathlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, takewhile
from typing import Any

import pandas as pd

from command_line.parser import CommandParser
from eval.protocols import PROTOCOLS
from eval.statistics import CONFIDENCE, SeedEstimate, over_seeds, paired_over_seeds
from formats.names import amount, plural
from formats.run_results import INFERENCE, OF_A_RUN, RESULTS, evaluations, read_results
from options import CALL_FLAGS, LAST_BIT_FLAGS, NEUTRAL_FLAGS
from utils.atomic import write_text
from utils.errors import InputError
from utils.printable import one_line
from utils.ranges import parse_span
from utils.text_table import table

PROTOCOL = PROTOCOLS["sal"].name  # by which runs are evaluated
_NOT_OF_A_METHOD = CALL_FLAGS | NEUTRAL_FLAGS | LAST_BIT_FLAGS | {"seed"}
KEYS = ["method", "evaluation", "runs", "detections"]  # the first columns; then measures, and "MEASURE sd" for each


@dataclass(frozen=True, kw_only=True)
class TableRun:
    name: str
    seed: int | None
    data: str
    options: str | None  # those that make the method, as JSON; None where the file states none
    measures: dict[str, dict[str, float]]  # evaluation -> {"0.5": mAP, "avg 0.1:0.7": ...}, fractions
    classes: tuple[str, ...]
    compared: dict[
        str, dict[str, int]
    ]  # evaluation -> how many of each of COMPARED; empty in files of earlier versions


def read_table_run(folder: pathlib.Path) -> TableRun:
    """Raises InputError for a folder without usable results, or whose test videos have no annotated segments."""
    results = read_results(folder)
    found = {name: evaluation for name, evaluation in evaluations(results).items() if evaluation.get("mAP")}
    if not found:
        raise InputError(f"{folder / RESULTS}: has no mAP, its test videos have no annotated segments; leave it out")
    options = results.get("options")
    shown = {name: value for name, value in (options or {}).items() if name not in _NOT_OF_A_METHOD}
    path = pathlib.Path(os.path.abspath(folder))
    first, seed = next(iter(found.values())), (options or results).get("seed")
    return TableRun(
        name=f"{path.parent.name}/{path.name}" if path.name == INFERENCE else path.name,
        seed=seed if type(seed) is int else None,
        data=str(results.get("data", {}).get("name", "")),
        options=json.dumps(shown, sort_keys=True) if options else None,
        measures={name: _measures(evaluation, folder / RESULTS) for name, evaluation in found.items()},
        classes=tuple(first.get("per_class_AP") or ()),
        compared={name: evaluation["compared"] for name, evaluation in found.items() if evaluation.get("compared")},
    )


def _measures(evaluation: Mapping[str, Any], path: pathlib.Path) -> dict[str, float]:
    averages = evaluation.get("average_mAP") or {}
    for name in (*evaluation["mAP"], *averages):
        try:
            parse_span(name)
        except InputError as error:
            raise InputError(f"{path}: {error}; fix it, or evaluate the run again") from None
    named = {**evaluation["mAP"], **{f"avg {span}": value for span, value in averages.items()}}
    return {name: float(value) for name, value in named.items() if value is not None}


def check_comparable(runs: Sequence[TableRun], folders: Sequence[pathlib.Path]) -> None:
    """Raise InputError for runs whose numbers belong in no common table: of other data, classes or tIoUs."""
    first, names = runs[0], list(next(iter(runs[0].measures.values())))
    for run, folder in zip(runs, folders, strict=True):
        both = f"{folders[0]} and {folder}"
        others_videos = run.compared and first.compared and _of_truth(run) != _of_truth(first)
        if (run.data, run.classes) != (first.data, first.classes) or others_videos:
            of = "; ".join(_data_of(r) for r in (first, run))
            raise InputError(f"{both} are of different data ({of}); make a table of each")
        for others in map(list, run.measures.values()):
            if others != names:
                raise InputError(
                    f"{both} are of different tIoUs ({', '.join(names)} and {', '.join(others)}); evaluate one again by "
                    "--inference_only with the other's --tious and --average_tious"
                )


def caption_of(runs: Sequence[TableRun]) -> str:
    """What the numbers of comparable runs are."""
    return f"mAP by protocol {PROTOCOL}, {_data_of(next((run for run in runs if run.compared), runs[0]))}"


def _data_of(run: TableRun) -> str:
    counts = _of_truth(run) | ({"class": len(run.classes)} if run.classes else {})
    return ", ".join([f"data {one_line(run.data)}", *(amount(count, what) for what, count in counts.items())])


def _of_truth(run: TableRun) -> dict[str, int]:
    """How many videos and instances its mAP is of, as far as is known."""
    counts = next(iter(run.compared.values()), {})
    return {what: counts[plural(what)] for what in ("video", "instance") if counts}


def methods(runs: Sequence[TableRun]) -> dict[str, list[TableRun]]:
    """{method: its runs}. Runs with the same options but for the seed are one; two with the same seed are not."""
    groups = defaultdict(list)
    for i, run in enumerate(runs):
        groups[i if run.options is None or run.seed is None else run.options].append(run)
    named: dict[str, list[TableRun]] = {}
    for group in groups.values():
        seeds = Counter(run.seed for run in group)
        apart = [group] if max(seeds.values()) == 1 else [[run] for run in group]
        for members in apart:
            name = _common_name([run.name for run in members])
            while name in named:
                name += "'"  # another method of that name
            named[name] = members
    return named


def _common_name(names: Sequence[str]) -> str:
    """What the names begin with, without "seed" and separators at its end; the first name if that is nothing."""
    if len(names) == 1:
        return names[0]
    common = takewhile(lambda signs: len(set(signs)) == 1, zip(*names, strict=False))
    return re.sub(r"[-_. ]*(seed|s)?[-_. ]*$", "", "".join(signs[0] for signs in common)) or names[0]


def table_of(runs: Sequence[TableRun], *, which: Sequence[str]) -> pd.DataFrame:
    """A row per method and evaluation: KEYS, then the mean over its runs of each measure and its sd, as fractions.

    The detections are a mean too; empty for runs of earlier versions.

    `which` chooses among OF_A_RUN; the one evaluation of an inference is always there. sd is NaN for one run.
    """
    rows = []
    for method, members in methods(runs).items():
        for evaluation in (*which, INFERENCE):
            of = [run.measures[evaluation] for run in members if evaluation in run.measures]
            if of:
                counts = [run.compared[evaluation]["detections"] for run in members if evaluation in run.compared]
                found = f"{round(sum(counts) / len(counts))}" if counts else ""
                row = dict(zip(KEYS, (method, evaluation, len(of), found), strict=True))
                for measure in of[0]:
                    estimate = over_seeds([measures[measure] for measures in of])
                    row |= {measure: estimate.value, f"{measure} sd": estimate.sd}
                rows.append(row)
    return pd.DataFrame(rows)


def notes_on(runs: Sequence[TableRun], *, which: Sequence[str]) -> list[str]:
    """What a reader of the table should know: intervals over seeds, and where there are none."""
    notes, shown = [], which[-1]
    values: dict[str, dict[int, float]] = {}  # of the methods of several runs, by seed
    for name, members in methods(runs).items():
        if len(members) == 1:
            notes.append(f"{name}: one run, so no deviation and no interval; train it with other seeds too")
            continue
        values[name] = {run.seed: _headline(run, shown) for run in members if run.seed is not None}
        estimate = over_seeds(list(values[name].values()))
        notes.append(f"{name}, {shown}: {_in_words(estimate)} over {amount(estimate.n, 'seed')}")
    for (base, reference), (name, others) in combinations(values.items(), 2):
        if len(reference.keys() & others.keys()) > 1:
            estimate = paired_over_seeds(reference, others)
            notes.append(
                f"{name} - {base}, {shown}: {_in_words(estimate, '+')} over {amount(estimate.n, 'common seed')}"
            )
    if "best" in which and any("best" in run.measures for run in runs):
        notes.append("best is chosen by its mAP on these very videos; compare methods by last")
    measure = list(next(iter(runs[0].measures.values())))[-1]
    return [f"intervals are of {measure}, {CONFIDENCE:.0%}, by Student's t"] * bool(values) + notes


def _headline(run: TableRun, evaluation: str) -> float:
    """The measure that stands last, by which a run chooses its best evaluation."""
    measures = run.measures.get(evaluation) or next(iter(run.measures.values()))
    return list(measures.values())[-1]


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
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    measures = _measure_columns(frame)
    lines = [line([*KEYS, *measures]), line(["---", "---", *["---:"] * (2 + len(measures))])]
    for row, cells in zip(frame[KEYS].itertuples(index=False), cells_of(frame), strict=True):
        means = [f"**{c.mean}**" if c.is_best else c.mean for c in cells]
        shown = [f"{mean} ± {c.sd}" if c.sd else mean for mean, c in zip(means, cells, strict=True)]
        lines.append(line([*map(escape_markdown, _keys(row)), *shown]))
    return f"{escape_markdown(caption)}, in percent\n\n" + "\n".join(lines) + "\n"


def as_latex(frame: pd.DataFrame, caption: str) -> str:
    """A tabular for a paper that uses the package booktabs."""
    measures = _measure_columns(frame)
    lines = [
        f"% {caption}, in percent; needs \\usepackage{{booktabs}}",
        f"\\begin{{tabular}}{{ll{'r' * (2 + len(measures))}}}",
        "\\toprule",
        " & ".join(map(escape_latex, [*KEYS, *measures])) + " \\\\",
        "\\midrule",
    ]
    for row, cells in zip(frame[KEYS].itertuples(index=False), cells_of(frame), strict=True):
        means = [f"\\textbf{{{c.mean}}}" if c.is_best else c.mean for c in cells]
        shown = [f"{mean} $\\pm$ {c.sd}" if c.sd else mean for mean, c in zip(means, cells, strict=True)]
        lines.append(" & ".join([*map(escape_latex, _keys(row)), *shown]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


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


def escape_markdown(text: str) -> str:
    """Text that markdown shows as it is, in a cell of a table too."""
    return re.sub(r"([\\`*_{}\[\]<>|~#&$])", r"\\\1", text)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def escape_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def print_table(arguments: Sequence[str]) -> None:
    parser = CommandParser(
        "python -m eval tables", "mAP of runs; those that differ in their seed alone are one method."
    )
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, metavar="RUN", help="folder of a run, or of its inference"
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="(default: %(default)s)")
    parser.add_argument(
        "--which",
        choices=(*OF_A_RUN, "both"),
        default="both",
        help="evaluation of a run: its best, which is chosen by this very mAP, its last, or both (default: %(default)s)",
    )
    parser.add_argument("--out", type=pathlib.Path, metavar="FILE", help="write the table there; notes are printed")
    args = parser.parse_args(arguments)
    which = OF_A_RUN if args.which == "both" else (args.which,)
    folders = list({path.resolve(): path for path in args.runs}.values())
    runs = [read_table_run(folder) for folder in folders]
    check_comparable(runs, folders)
    text = FORMATS[args.format](table_of(runs, which=which), caption_of(runs))
    if args.out:
        write_text(args.out, text)
        print(f"{args.out}: written")
    else:
        print(text, end="")
    for note in notes_on(runs, which=which):
        print(f"note: {one_line(note)}", file=sys.stdout if args.out or args.format == "text" else sys.stderr)
