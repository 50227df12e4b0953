"""From jobs to their table: run what is not finished, then tabulate what is.

code = run_all(jobs, settings, tables)
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_tools.recipe import complete
from eval.run_tables import as_latex, as_markdown, as_text, tabulate
from experiments.arguments import Settings
from experiments.job import Job, State, state_of
from experiments.plan import check_before
from experiments.slurm import read_slurm_settings, submit
from experiments.workers import make_slots, work_off
from formats.names import amount, shown
from formats.run_results import OF_A_RUN, VAL
from options import check_training
from utils.atomic import write_text
from utils.printable import one_line


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The same tables in three forms, and what their reader should know."""

    text: str
    markdown: str
    latex: str
    notes: Sequence[str]


def tables_of_methods(finished: Sequence[Job], more: Sequence[str] = ()) -> Tables:
    """A row per method and evaluation: runs that differ in their seed alone are one method. `more` are further notes."""
    made = tabulate([job.folder for job in finished], which=(*OF_A_RUN, VAL))
    text, markdown, latex = (form(made.frame, made.caption) for form in (as_text, as_markdown, as_latex))
    return Tables(text=text, markdown=markdown, latex=latex, notes=[*made.notes, *more])


def run_all(
    jobs: Sequence[Job], settings: Settings, tables: Callable[[Sequence[Job]], Tables] = tables_of_methods
) -> int:
    """Return the exit code: 0 if all runs are finished, with --table if there is one to tabulate; else 1.

    Raises InputError before the first run for a mistake.
    """
    slurm = None if settings.slurm is None else read_slurm_settings(settings.slurm)
    if not settings.table_only:
        check_before(jobs)
    waiting = unfinished(jobs)
    if waiting and not settings.table_only:
        _say_recipe(jobs)
    if slurm is not None:
        return _submit(waiting, settings, slurm)
    if not settings.table_only:
        slots = make_slots(jobs=settings.jobs, device=jobs[0].options.run.device, runs=len(waiting))
        work_off(waiting, slots, title=settings.name, done=len(jobs) - len(waiting))
    missing = _conclude(jobs, settings.folder, tables)
    if missing:
        print(
            f"{amount(len(missing), 'run')} of {len(jobs)} not finished: {shown(missing, most=10)}; "
            f"the same command{' without --table' if settings.table_only else ''} goes on with them"
        )
    done = len(missing) < len(jobs) if settings.table_only else not missing
    return 0 if done else 1


def _say_recipe(jobs: Sequence[Job]) -> None:
    """Print which recipe the runs that differ in their seeds alone take, and why. Raises InputError."""
    first, *others = ({name: value for name, value in job.flags.items() if name != "seed"} for job in jobs)
    if all(other == first for other in others) and any(state_of(job) is State.NEW for job in jobs):
        options, taken, _ = complete(jobs[0].flags, jobs[0].options)
        check_training(jobs[0].flags, options)
        if taken:
            print(taken)


def unfinished(jobs: Sequence[Job]) -> list[Job]:
    return [job for job in jobs if state_of(job) is not State.DONE]


def _submit(jobs: Sequence[Job], settings: Settings, slurm: Mapping[str, Any]) -> int:
    if not jobs:
        print("all runs are finished: the same command with --table in place of --slurm prints the table")
        return 0
    numbers = submit(jobs, slurm, folder=settings.folder / "slurm", name=settings.name)
    of = f" as Slurm's {', '.join(numbers)}" if numbers else ""
    print(
        f"{amount(len(jobs), 'run')} submitted{of}, which log to {settings.folder / 'logs'}; once they are done, the same "
        "command without --slurm, or with --table in its place, prints the table"
    )
    return 0


def _conclude(jobs: Sequence[Job], folder: pathlib.Path, tables: Callable[[Sequence[Job]], Tables]) -> dict[str, None]:
    """Write the tables beside the runs, and print them. Returns the names of the runs that are not finished."""
    still = unfinished(jobs)
    while True:
        missing = {job.name: None for job in still}
        finished = [job for job in jobs if job.name not in missing]
        lines = _write(tables(finished), folder, missing) if finished else []
        # Another queue may have finished a run and written its table meanwhile, in place of which now stands one without it.
        still = unfinished(still)
        if len(still) == len(missing):
            break
    for line in lines:
        print(line)
    return missing


def _write(made: Tables, folder: pathlib.Path, missing: Mapping[str, None]) -> list[str]:
    """Write the tables, return what is to be printed of them."""
    notes = [one_line(note) for note in made.notes]
    if missing:
        notes.insert(0, f"not finished, so not in the table: {shown(missing, most=None)}")
    write_text(folder / "table.md", made.markdown + "".join(f"\n- {note}" for note in notes) + "\n")
    write_text(folder / "table.tex", made.latex + "".join(f"% {note}\n" for note in notes))
    return [made.text, *(f"note: {note}" for note in notes), f"{folder / 'table.md'} and table.tex: written"]
