"""The command line that seeds, sweep and ablation have in common: what to run and where, then flags of main.py for all runs.

parser = experiment_parser("experiments.seeds", "What it does.")
parser.add_argument("--seeds", ...)
settings = read_settings(parser.parse_args(words), name="seeds")

This module and the commands themselves stand on the standard library alone, so that --help waits for nothing.
"""

import argparse
import pathlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from command_line.flags import Parser
from formats.names import is_file_name
from options import CALL_FLAGS, FLAGS, RunOptions
from utils.errors import InputError

INTERRUPTED = "interrupted; the same command goes on from what the runs have saved"
MOST_JOBS = 1024
# Flags of a single call that all runs may share; the others name it, or make something else of it.
_SHARED = {"allow_pickle", "classes", "device", "output_dir", "products", "threads", "verbose"}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a command is to do with its runs."""

    name: str
    folder: pathlib.Path  # of all runs
    jobs: int | None
    table_only: bool
    slurm: list[str] | None  # KEY=VALUE, settings of Slurm; None: the runs are made here
    flags: dict[str, Any]  # of main.py, for every run


def experiment_parser(command: str, about: str, *, runs: str, without: Collection[str] = ()) -> Parser:
    """A parser of what the commands share and of main.py's flags, but for those of a single call and `without`.

    `runs` says in the help where the default of --name comes from.
    """
    parser = Parser(command, "", FLAGS, opening=lambda: about)
    parser.aliases = {**FLAGS.aliases, "exp_name": "name"}  # which names a run each
    parser.add_argument("--name", metavar="TEXT", help=f"folder of the runs in --output_dir (default: {runs})")
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="runs at a time; they share the GPUs, or the CPUs' threads (default: one per GPU, on a CPU one)",
    )
    parser.add_argument(
        "--table", action="store_true", help="run nothing: make the table of the runs that are finished"
    )
    parser.add_argument(
        "--slurm",
        nargs="*",
        metavar="KEY=VALUE",
        help="submit the runs to Slurm, a task each, and return: partition=gpu time=600 (minutes) gpus_per_node=1 and so on, "
        "as submitit calls them",
    )
    parser.add_options(shared_flags(without))
    return parser


def shared_flags(without: Collection[str]) -> list[str]:
    """The flags of main.py that all runs may have in common, but for these."""
    return [name for name in FLAGS.names if name not in CALL_FLAGS - _SHARED and name not in without]


def add_seeds(parser: Parser) -> None:
    parser.add_argument(
        "--seeds", type=int, nargs="+", required=True, metavar="N", help="of the runs; two say little, three something"
    )


def read_settings(parsed: argparse.Namespace, *, name: str) -> Settings:
    """`name` is the default of --name. Raises InputError."""
    values = vars(parsed)
    flags = {flag: values[flag] for flag in FLAGS.names if flag in values}
    chosen, jobs = values.get("name", name), values.get("jobs")
    if not is_file_name(chosen) or chosen.startswith("-"):
        raise InputError(f"--name {chosen}: must be a plain folder name; --output_dir says where it goes")
    if jobs is not None and not 1 <= jobs <= MOST_JOBS:
        raise InputError(f"--jobs {jobs}: give 1 to {MOST_JOBS:,} runs at a time")
    others = [other for other in ("jobs", "table") if other in values]
    if "slurm" in values and others:
        raise InputError(f"--slurm and --{others[0]} contradict each other; give one of them")
    return Settings(
        name=chosen,
        folder=pathlib.Path(flags.pop("output_dir", RunOptions.output_dir)) / chosen,
        jobs=jobs,
        table_only="table" in values,
        slurm=values.get("slurm"),
        flags=flags,
    )
