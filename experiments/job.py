"""A run that a queue is to make: its flags, its folder, and how far it has come.

job = make_job("base-seed1", pathlib.Path("output/base"), {"data_path": "data/x", "seed": 1})
state_of(job)               # State.NEW, BEGUN or DONE, from what lies in its folder
job.command(resume=False)   # [python, main.py, --exp_name=base-seed1, ...]
"""

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from command_line.flags import as_words
from data_tools.recipe import undecided
from formats.ground_truth import read_json
from formats.run_results import QUEUE_LOGS, RESULTS
from options import (
    CALL_FLAGS,
    FLAGS,
    LAST_BIT_FLAGS,
    NEUTRAL_FLAGS,
    Options,
    as_plain,
    check_training,
    parse_flags,
    resolve,
)
from recipes import AUTO
from utils.errors import InputError

MAIN = pathlib.Path(__file__).resolve().parent.parent / "main.py"
# A run on other data is another run, though a training that goes on may find its data elsewhere.
_OF_NO_RUN = (CALL_FLAGS | NEUTRAL_FLAGS | LAST_BIT_FLAGS) - {"data_path", "ground_truth"}


class State(Enum):
    """What the folder of a run holds."""

    NEW = "new"  # nothing to go on with
    BEGUN = "begun"  # last.pt
    DONE = "done"  # results of all its steps


@dataclass(frozen=True, kw_only=True)
class Job:
    name: str
    output_dir: pathlib.Path  # the folder that its folder is in
    flags: Mapping[str, Any]  # {flag name: value}, but for those that name it
    options: Options
    program: pathlib.Path  # main.py

    @property
    def folder(self) -> pathlib.Path:
        return self.output_dir / self.name

    @property
    def log(self) -> pathlib.Path:
        """What the run prints."""
        return self.output_dir / QUEUE_LOGS / f"{self.name}.log"

    def command(self, *, resume: bool, threads: int | None = None) -> list[str]:
        """The command that makes the run, or goes on with it. A run that goes on keeps its number of threads, unless typed."""
        own = {"resume": True} if resume else {"threads": threads}
        words = as_words({**own, **self.flags})
        return [
            sys.executable,
            os.fspath(self.program),
            f"--exp_name={self.name}",
            f"--output_dir={self.output_dir}",
            *words,
        ]


def make_job(name: str, output_dir: pathlib.Path, flags: Mapping[str, Any]) -> Job:
    """Raises InputError for whatever main.py would refuse of the flags."""
    typed = parse_flags([f"--exp_name={name}", f"--output_dir={output_dir}", *as_words(flags)])
    options = resolve(typed)
    if options.data.recipe != AUTO:  # whose pseudo labels the data decide on
        check_training(typed, options)
    return Job(name=name, output_dir=output_dir, flags=dict(flags), options=options, program=MAIN)


def state_of(job: Job) -> State:
    """Raises InputError when the folder is of a run with other options, or can't be read."""
    results = _read(job.folder / RESULTS)
    if results.get("finished") is True:
        _check_same(job, results.get("options"))
        return State.DONE
    if (job.folder / "last.pt").exists():
        _check_same(job, _read(job.folder / "options.json"))
        return State.BEGUN
    return State.NEW


def _read(path: pathlib.Path) -> dict[str, Any]:
    content = read_json(path) if path.exists() else {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object; is it another program's? remove it, or give another --name")
    return content


def _check_same(job: Job, saved: Any) -> None:
    """Raise InputError naming the first flag whose value differs from that of the run in the folder."""
    if not isinstance(saved, Mapping) or not saved:
        return  # nothing is stated: --resume reads the checkpoint itself
    for name, value in as_plain(job.options).items():
        before = saved.get(name, FLAGS.flags[name].default)
        if name not in _OF_NO_RUN | undecided(job.flags) and _plain(value) != _plain(before):
            raise InputError(
                f"{job.folder}: holds a run with --{name} {before}, not {value}; give another --name, or move it away"
            )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
