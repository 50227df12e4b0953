"""Preparation of a set in the "thumos" layout, ready to train on, from your own features and a table of labels.

python -m data_tools.prepare --features DIR --labels labels.csv --out DATA [--annotations segments.csv]

DIR holds rgb/VIDEO.npy and flow/VIDEO.npy, or VIDEO.npy with both side by side, or any other form in docs/data.md, HDF5 too.
Training only needs video-level labels. Segments, where somebody marked them, only serve to measure mAP on the test videos.
Videos without labels make a set for inference alone.
"""

import pathlib
import sys

if __name__ == "__main__" and not __package__:  # run as a file: Python then looks for modules in this folder alone
    sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("data_tools.prepare")  # loading the rest takes a moment

import os
from collections.abc import Sequence

from command_line.console import run_tool
from command_line.flags import Parser
from data_tools.next_command import GRID_FLAGS
from data_tools.set_plan import add_table_flags, plan_set, read_tables
from data_tools.set_writer import write_set
from formats.array_files import STREAMS
from formats.feature_files import Located
from formats.feature_folders import features_in
from formats.layouts import listing
from formats.problems import raise_problem
from formats.regular_files import check_regular
from formats.unlabelled import features_in_any_form
from options import FLAGS, resolve
from utils.errors import InputError

DATA_FLAGS = ("modal", "feature_size", "skip_unusable", *GRID_FLAGS)


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 1 interrupted, 2 invalid input."""
    return run_tool("data_tools.prepare", prepare, arguments, interrupted="interrupted; the same command continues")


def prepare(arguments: Sequence[str]) -> None:
    parser = Parser("data_tools.prepare", "Makes a set to train on from features and a table of labels.", FLAGS)
    path = pathlib.Path
    parser.add_argument(
        "--features", type=path, required=True, metavar="DIR", help="rgb/ and flow/ inside, or joint files"
    )
    add_table_flags(parser, required=True)
    parser.add_argument("--out", type=path, required=True, metavar="DATA", help="folder to write")
    parser.add_options(DATA_FLAGS)
    flags = vars(parser.parse_args(arguments))
    options = resolve({name: flags[name] for name in DATA_FLAGS if name in flags}).data
    folder, out = flags["features"], flags["out"]
    stored = _features(folder, table=flags["labels"], out=out)
    tables = read_tables(flags)
    plan = plan_set(stored, tables, options, flags, folder=folder)
    origin = f"prepared from {folder.resolve()} and {tables.path.resolve()}"
    write_set(out, plan.by_split, plan.annotations, streams=options.streams, origin=origin)
    print(plan.report(out, flags))


def _features(folder: pathlib.Path, *, table: pathlib.Path, out: pathlib.Path) -> dict[str, Located]:
    if not folder.is_dir():
        raise InputError(f"--features {folder}: no such folder; check the path")
    check_regular(table)
    target = os.path.realpath(out)  # which a loop of links does not break, unlike resolve()
    for place in (folder.resolve(), table.resolve()):
        if place.is_relative_to(target):
            raise InputError(f"--out {out}: holds {place}, which the set is made from; name another folder")
    # VIDEO_rgb.npy without its partner is a stream of VIDEO, unless the table names it in full.
    videos = features_in(folder, raise_problem)
    videos = {**features_in_any_form(folder, (lambda _: None) if videos else raise_problem), **videos}
    if not videos:
        wanted = " and ".join(f"{stream}/VIDEO.npy" for stream in STREAMS)
        raise InputError(
            f"--features {folder}: holds no features; expected {wanted}, or VIDEO.npy with both, or HDF5 files; it has "
            f"{listing(folder)}"
        )
    return videos


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
