"""The same run with several seeds, and the table of their mean and deviation.

bash scripts/seeds.sh --seeds 0 1 2 --data_path DATA            # and any other flags of main.py, for all runs
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("experiments.seeds")  # loading the rest takes a moment

from collections.abc import Sequence

from command_line.console import run_tool
from experiments.arguments import INTERRUPTED, add_seeds, experiment_parser, read_settings
from utils.processors import settle_in

ABOUT = """The same run with several seeds: mean and standard deviation, best and last, with intervals.

examples:
  bash scripts/seeds.sh --seeds 0 1 2 --data_path DATA --name base
      three runs, output/base/base-seed0 and so on; a finished one is not made again, an interrupted one goes on
  bash scripts/seeds.sh --seeds 0 1 2 --data_path DATA --jobs 3
      three at a time, each with a third of the CPUs' threads

After these flags come those of main.py, for all runs."""


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 not all runs are finished, 2 invalid input."""
    settle_in()
    return run_tool("experiments.seeds", run_seeds, arguments, interrupted=INTERRUPTED)


def run_seeds(arguments: Sequence[str]) -> int:
    parser = experiment_parser("experiments.seeds", ABOUT, runs="seeds", without=("seed",))
    add_seeds(parser)
    parsed = parser.parse_args(arguments)
    settings = read_settings(parsed, name="seeds")

    from experiments.plan import in_order, seed_jobs
    from experiments.running import run_all

    jobs = seed_jobs(settings.folder, {settings.name: {}}, seeds=parsed.seeds, flags=settings.flags)
    return run_all(in_order(jobs), settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
