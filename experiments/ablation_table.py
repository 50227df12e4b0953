"""The table of an ablation: which parts a row has, its mAP over the seeds, and what the part has changed.

made = ablation_tables(variants, jobs, finished)        # jobs: {variant's key: {seed: job}}; some of them are finished
print(made.text)
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from eval.run_tables import caption_of, check_comparable
from eval.statistics import CONFIDENCE, SeedEstimate, over_seeds, paired_over_seeds
from eval.table_markup import escape_latex, escape_markdown, latex_table, markdown_table
from eval.table_runs import TableRun, read_table_run
from experiments.job import Job
from experiments.parts import PARTS, Variant, switches
from experiments.running import Tables
from formats.run_results import OF_A_RUN, VAL
from recipes import RECIPES
from utils.text_table import table

NONE = "-"  # where there is no run
Runs = Mapping[str, Mapping[int, TableRun]]  # by variant and seed


def ablation_tables(
    variants: Sequence[Variant], jobs: Mapping[str, Mapping[int, Job]], finished: Sequence[Job]
) -> Tables:
    """A table per evaluation that all runs have, best last. Raises InputError for runs that belong in no common table."""
    tables = {job.name: read_table_run(job.folder, which=(*OF_A_RUN, VAL)) for job in finished}
    runs = {
        key: {seed: tables[job.name] for seed, job in by_seed.items() if job.name in tables}
        for key, by_seed in jobs.items()
    }
    every = list(tables.values())
    recipes = {job.options.data.recipe for of in jobs.values() for job in of.values()}
    check_comparable(every, [job.folder for job in finished])
    text, markdown, latex = [], [], []
    for evaluation in [name for name in (VAL, *reversed(OF_A_RUN)) if all(name in run.measures for run in every)]:
        caption = f"{evaluation}: {caption_of(every)}, in percent"
        measures = list(every[0].measures[evaluation])
        header = ["", *(part.short for part in PARTS), "runs", *measures, f"change of {measures[-1]}", "training s"]
        rows = [_row(variant, runs, evaluation, measures) for variant in variants]
        text.append(f"{caption}\n\n{table(header, rows)}\n")
        markdown.append(f"{escape_markdown(caption)}\n\n{markdown_table(header, rows, names=1)}")
        shown = [[_as_latex(cell) for cell in row] for row in (header, *rows)]
        latex.append(latex_table(shown[0], shown[1:], names=1, caption=escape_latex(caption)))
    checks = "% needs \\usepackage{amssymb} for its check marks\n"
    notes = [*_notes(variants, runs), *_of_recipes(variants, recipes)]
    return Tables(text="\n".join(text), markdown="\n".join(markdown), latex=checks + "".join(latex), notes=notes)


def _row(variant: Variant, runs: Runs, evaluation: str, measures: Sequence[str]) -> list[str]:
    """The cells of a variant, measures in percent."""
    of = runs.get(variant.key, {})
    checks = ["✓" if part.flag in variant.parts else "" for part in PARTS]
    if not of:
        return [variant.label, *checks, "0", *[NONE] * (len(measures) + 2)]
    estimates = [over_seeds([run.measures[evaluation][name] for run in of.values()]) for name in measures]
    seconds = [run.training_seconds for run in of.values() if run.training_seconds is not None]
    return [
        variant.label,
        *checks,
        str(len(of)),
        *(_mean(estimate) for estimate in estimates),
        change_of(variant, runs, evaluation, measures[-1]),
        f"{sum(seconds) / len(seconds):.1f}" if seconds else NONE,
    ]


def _mean(estimate: SeedEstimate) -> str:
    return f"{100 * estimate.value:.1f}" + (f" ± {100 * estimate.sd:.1f}" if estimate.n > 1 else "")


def change_of(variant: Variant, runs: Runs, evaluation: str, measure: str) -> str:
    """What the row has more than the one it is compared with, paired by seed, with its interval; empty for a baseline."""
    if variant.against is None:
        return ""
    before, after = (
        {seed: run.measures[evaluation][measure] for seed, run in runs.get(key, {}).items()}
        for key in (variant.against, variant.key)
    )
    if not before.keys() & after.keys():
        return NONE
    found = paired_over_seeds(before, after)
    if found.n == 1:
        return f"{100 * found.value:+.1f}"
    clear = "*" if found.low > 0 or found.high < 0 else ""
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]{clear}"


def _as_latex(cell: str) -> str:
    """A cell, its signs as commands: a hyphen is no minus."""
    marked = escape_latex(cell).replace("✓", "$\\checkmark$").replace("±", "$\\pm$")
    return re.sub(r"(?<!\w)([-+])(?=\d)", r"$\1$", marked)


def _notes(variants: Sequence[Variant], runs: Runs) -> list[str]:
    notes = [
        f"change: from the row above{_whole(variants)}, paired by seed; in brackets its {CONFIDENCE:.0%} interval by "
        "Student's t over the seeds of both, * where that leaves out 0"
    ]
    single = [variant.label for variant in variants if len(runs.get(variant.key, {})) == 1]
    if single:
        notes.append(f"{', '.join(single)}: one run, so no deviation and no interval")
    notes.append(
        "training s: mean seconds of a run's steps, without evaluations, beside whatever else this machine did"
    )
    notes.append("best is chosen by its mAP on these very videos; compare rows by last")
    return notes


def _of_recipes(variants: Sequence[Variant], recipes: Iterable[str]) -> list[str]:
    """Rows switch every part, whatever a recipe says of it: a note where none of them is what the recipe trains."""
    notes = []
    for recipe in sorted(recipes):
        constants = RECIPES.get(recipe, {})
        off = [part for part in PARTS if constants.get(f"no_{part.flag}")]
        if off and all(variant.flags != switches(off) for variant in variants):
            notes.append(
                f"--recipe {recipe} leaves out {', '.join(part.name for part in off)}, which SAL here has: no row is the "
                "recipe as it stands; make its runs with experiments.seeds"
            )
    return notes


def _whole(variants: Sequence[Variant]) -> str:
    return ", or of those without a part from SAL" if any("without" in variant.key for variant in variants) else ""
