"""What each part of the method is worth: runs from a baseline upward, one part more each, and their table.

bash scripts/ablation.sh --seeds 0 1 2 --data_path DATA         # and any other flags of main.py, for all runs
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("experiments.ablation")  # loading the rest takes a moment

from collections.abc import Sequence
from functools import partial

from command_line.console import run_tool
from experiments.arguments import INTERRUPTED, add_seeds, experiment_parser, read_settings
from experiments.parts import SWITCHES, upward, without_one
from utils.processors import settle_in

ABOUT = """What each part of the method is worth: a baseline, then second-order semantics, propagation, actionness, mutual
learning, mix-up and the adaptive mask on top, several seeds each; the table says what each has changed, paired by seed.

examples:
  bash scripts/ablation.sh --seeds 0 1 2 --data_path DATA
      7 rows of 3 runs; a finished one is not made again, an interrupted one goes on
  bash scripts/ablation.sh --seeds 0 1 2 --data_path DATA --without
      6 rows more, the whole method without one part each

After these flags come those of main.py, for all runs."""


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 not all runs are finished, 2 invalid input."""
    settle_in()
    return run_tool("experiments.ablation", run_ablation, arguments, interrupted=INTERRUPTED)


def run_ablation(arguments: Sequence[str]) -> int:
    parser = experiment_parser("experiments.ablation", ABOUT, runs="ablation", without={"seed", *SWITCHES})
    add_seeds(parser)
    parser.add_argument("--without", action="store_true", help="the whole method without one part each, too")
    parsed = parser.parse_args(arguments)
    settings = read_settings(parsed, name="ablation")

    from experiments.ablation_table import ablation_tables
    from experiments.plan import in_order, seed_jobs
    from experiments.running import run_all

    variants = upward() + (without_one() if "without" in parsed else [])
    jobs = seed_jobs(
        settings.folder,
        {variant.key: variant.flags for variant in variants},
        seeds=parsed.seeds,
        flags=settings.flags,
    )

    return run_all(in_order(jobs), settings, partial(ablation_tables, variants, jobs))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
