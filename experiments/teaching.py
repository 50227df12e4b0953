"""How right the teaching of actionness is while a run trains, held against the training videos' segments, and a picture of it.

python -m experiments.teaching --data_path DATA --out DIR --seeds 1 2       # and any other flags of main.py, for all runs
python -m experiments.teaching --plot DIR DIR --out teaching.png

Runs are those of main.py, to the last digit. The segments of training videos serve for analysis alone: weak supervision has
none, so whoever chooses a recipe by what is shown here must not call it weakly supervised on these videos.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("experiments.teaching")  # loading the rest takes a moment

import argparse
from collections.abc import Sequence

from command_line.console import run_tool
from command_line.flags import Parser
from experiments.arguments import shared_flags
from formats.names import amount, is_file_name, shown
from main import OUT_OF_MEMORY
from options import FLAGS, Options, resolve
from ranks.place import check_alone
from utils.errors import InputError
from utils.processors import settle_in

ABOUT = """How right the teaching of actionness is, at every evaluation of a run: pseudo labels, mask and actionness of the
training videos, held against their segments. For analysis alone: nothing of it flows into training.

examples:
  python -m experiments.teaching --data_path DATA --out output/teaching/base --seeds 1 2
      two runs of main.py, and output/teaching/base/teaching.csv: a row per seed and evaluation
  python -m experiments.teaching --plot output/teaching/base output/teaching/other --out teaching.png
      the rows of several such folders side by side

After these flags come those of main.py, for all runs. No report is written unless --write_report asks for it."""

RUN_FLAGS = shared_flags({"seed", "output_dir"})


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 training could not continue, 2 invalid input."""
    settle_in()
    return run_tool("experiments.teaching", run_teaching, arguments, out_of_memory=OUT_OF_MEMORY)


def run_teaching(arguments: Sequence[str]) -> None:
    parser = Parser("experiments.teaching", "", FLAGS, opening=lambda: ABOUT)
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        help="folder of the runs and of teaching.csv; with --plot the picture, .png or .svg",
    )
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="of the runs (default: one, the recipe's)")
    parser.add_argument("--name", metavar="TEXT", help="what table and picture call the runs (default: DIR's name)")
    parser.add_argument(
        "--plot", type=pathlib.Path, nargs="+", metavar="DIR", help="draw what is in these folders; nothing is trained"
    )
    parser.add_options(RUN_FLAGS)
    parsed = parser.parse_args(arguments)
    check_alone("experiments.teaching")
    if "plot" in parsed:
        _plot(parsed)
    else:
        _train(parsed)


def _plot(parsed: argparse.Namespace) -> None:
    others = sorted(vars(parsed).keys() - {"plot", "out"})
    if others:
        raise InputError(f"--plot and --{others[0]} contradict each other; give one of them")
    from experiments.teaching_picture import write_picture
    from experiments.teaching_rows import read_all

    write_picture(parsed.out, read_all(parsed.plot))
    print(f"picture: {parsed.out}")


def _train(parsed: argparse.Namespace) -> None:
    values = vars(parsed)
    flags = {"write_report": False, **{flag: values[flag] for flag in RUN_FLAGS if flag in values}}
    out, name = parsed.out, values.get("name", parsed.out.resolve().name)
    if not is_file_name(name) or name.startswith("-"):
        raise InputError(f"--name {name}: must be a plain name, which the runs' folders begin with")

    from experiments.plan import check_before, in_order, seed_jobs
    from experiments.teaching_measures import TeachingWatch
    from experiments.teaching_rows import FILE, Row, rows_of, table_of, write_rows
    from main import run_training
    from run.lock import FolderLock

    seeds = parsed.seeds if "seeds" in parsed else [resolve(flags).run.seed]
    jobs = in_order(seed_jobs(out, {name: {}}, seeds=seeds, flags=flags))
    there = [path for path in (out / FILE, *(job.folder for job in jobs)) if path.exists()]
    if there:
        raise InputError(f"{there[0]}: is there already; give another --out")
    check_before(jobs)
    _check_teaching(jobs[0].options)
    rows = list[Row]()
    with FolderLock(out, instead="another --out"):
        for job in jobs:
            watch = TeachingWatch()
            run_training({**job.flags, "exp_name": job.name, "output_dir": str(out)}, watch=watch)
            rows += rows_of(watch, job.folder, name=name, seed=job.options.run.seed)
            write_rows(out / FILE, rows)
    print(table_of(rows))
    print(f"{out / FILE}: written; --plot {out} --out {out / 'teaching.png'} draws it")


def _check_teaching(options: Options) -> None:
    """Raise InputError where nothing is taught, or nothing is there to hold it against."""
    from data_tools.demo_set import data_folder
    from formats.opening import open_usable_set

    if not options.ablation.actionness:
        raise InputError("--no_actionness: leaves no teaching to look at; omit it")
    path = data_folder(options.data)
    videos, _ = open_usable_set(path, options.data, splits=("train",))
    without = [video for video in videos.names["train"] if not videos.annotations[video].instances]
    if without:
        raise InputError(
            f"{path}: {amount(len(without), 'training video')} without segments in the ground truth, such as "
            f"{shown(without[:1])}; what is taught can be compared with segments alone"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
