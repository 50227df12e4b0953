"""Every combination of some flags' values, with several seeds each, and their table.

bash scripts/sweep.sh FILE.yaml                         # and any other flags of main.py, for all runs
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("experiments.sweep")  # loading the rest takes a moment

from collections.abc import Sequence
from functools import partial

from command_line.console import run_tool
from experiments.arguments import INTERRUPTED, experiment_parser, read_settings, shared_flags
from options import resolve
from utils.errors import InputError
from utils.processors import settle_in

ABOUT = """Every combination of some flags' values, with several seeds each: mean and standard deviation, best and last.

FILE.yaml says which:
  flags: {data_path: data/x, num_epochs: 10}      # of every run
  values: {lr: [1e-4, 3e-4], w_bg: [1, 10]}       # every combination
  seeds: [0, 1, 2]                                # of each; without it one, the recipe's

example:
  bash scripts/sweep.sh FILE.yaml --jobs 2
      12 runs, output/FILE/lr=0.0001-w_bg=1.0-seed0 and so on, two at a time; a finished one is not made again

After these flags come those of main.py, for all runs."""
CHOSEN_ON_TEST = "who chooses a row by these numbers chooses on these very videos, which flatters it"


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 not all runs are finished, 2 invalid input."""
    settle_in()
    return run_tool("experiments.sweep", run_sweep, arguments, interrupted=INTERRUPTED)


def run_sweep(arguments: Sequence[str]) -> int:
    parser = experiment_parser("experiments.sweep", ABOUT, runs="the file's, without .yaml", without=("seed",))
    parser.add_argument("file", type=pathlib.Path, metavar="FILE.yaml", help="flags, values and seeds")
    parsed = parser.parse_args(arguments)
    settings = read_settings(parsed, name=parsed.file.stem)

    from experiments.plan import in_order, seed_jobs
    from experiments.running import run_all, tables_of_methods
    from experiments.sweep_file import check_overlap, read_sweep

    sweep = read_sweep(parsed.file, allowed=shared_flags({"seed", "output_dir"}))
    check_overlap(sweep, list(settings.flags), parsed.file)
    flags = {**sweep.flags, **settings.flags}
    variants = {name or settings.name: own for name, own in sweep.variants().items()}
    try:
        seeds = sweep.seeds or [resolve(flags).run.seed]
        jobs = seed_jobs(settings.folder, variants, seeds=seeds, flags=flags)
    except InputError as error:
        raise InputError(f"{parsed.file}: {error}") from None

    more = [CHOSEN_ON_TEST] if len(variants) > 1 else []
    return run_all(in_order(jobs), settings, partial(tables_of_methods, more=more))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
