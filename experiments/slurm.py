"""The same queue on Slurm: job arrays through submitit, whose tasks make one run each and are requeued when time is up.

submit(jobs, {"partition": "gpu", "time": 600}, folder=pathlib.Path("output/base/slurm"), name="base")
"""

import contextlib
import io
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from command_line.suggestions import closest, did_you_mean
from experiments.job import Job, State, state_of
from experiments.process import RunProcess
from utils.errors import InputError, TrainingError

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

DEFAULTS: Mapping[str, Any] = {"time": 600}  # minutes; submitit's own are 5
LARGEST_ARRAY = 1000  # tasks; Slurm takes 1001 unless its administrator has set another limit
MOST_TIMEOUTS = 1000  # after which a run is given up
POLL = 0.5  # seconds
# What a key of submitit would make of a task that is one run, or what is set here.
_NOT_OFFERED = {"nodes", "ntasks_per_node", "num_gpus", "setup", "teardown", "srun_args", "additional_parameters"}


class Task:
    """One run. submitit pickles it, calls it on a node, and calls `checkpoint` when Slurm warns that time is up."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process: RunProcess | None = None

    def __call__(self) -> None:
        """Raises TrainingError when the run fails."""
        if state_of(self.job) is State.DONE:
            return
        self.process = RunProcess(self.job)
        try:
            while self.process.poll() is None:
                time.sleep(POLL)
        finally:
            self.process.stop()
        if state_of(self.job) is not State.DONE:
            raise TrainingError(f"{self.job.name}: {self.process.last_words()}")

    def checkpoint(self) -> "DelayedSubmission":
        """Have the run save and end; what is to be called when the task is requeued."""
        from submitit.core.utils import DelayedSubmission

        if self.process:
            self.process.stop()
            self.process.await_end()
        return DelayedSubmission(Task(self.job))


def read_slurm_settings(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE, as submitit calls them. Raises InputError for a key that it does not know, or without submitit."""
    known = _known_keys()
    settings = dict(DEFAULTS)
    for word in words:
        key, sign, text = word.partition("=")
        if not sign or not text or not text.isprintable():
            raise InputError(f"--slurm {word}: expected KEY=VALUE, such as partition=gpu")
        if key not in known:
            meant = did_you_mean(closest(key, known))
            raise InputError(f"--slurm {key}: is none of {', '.join(sorted(known))}{meant}")
        settings[key] = {"true": True, "false": False}.get(text, int(text) if text.isdecimal() else text)
    if type(settings["time"]) is not int or settings["time"] < 1:
        raise InputError(f"--slurm time={settings['time']}: give minutes, a whole number")
    return settings


def _known_keys() -> set[str]:
    try:
        from submitit import SlurmExecutor
    except ModuleNotFoundError:
        install = f"{sys.executable} -m pip install -r requirements-slurm.txt"
        raise InputError(f"--slurm: needs the package submitit; install it: {install}") from None
    return set(SlurmExecutor._valid_parameters()) - _NOT_OFFERED


def submit(jobs: Sequence[Job], settings: Mapping[str, Any], *, folder: pathlib.Path, name: str) -> list[str]:
    """Submit a task per job, return the numbers that Slurm gives. `folder` gets submitit's files and the tasks' own logs.

    Raises InputError when there is no Slurm here, or when it refuses the queue.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    try:
        executor = SlurmExecutor(folder, max_num_timeout=MOST_TIMEOUTS)
    except RuntimeError:
        raise InputError("--slurm: there is no srun on the PATH; submit from a machine of the cluster") from None
    # A task finds modules where they were found here, under the names that they have here (sal/_program.py).
    places = os.pathsep.join(os.path.abspath(place) for place in sys.path)
    executor.update_parameters(**{"job_name": name, **settings}, setup=[f"export PYTHONPATH={shlex.quote(places)}"])
    before, numbers = set(folder.glob("*")), list[str]()
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it raises
            for first in range(0, len(jobs), LARGEST_ARRAY):
                with executor.batch():
                    tasks = [executor.submit(Task(job)) for job in jobs[first : first + LARGEST_ARRAY]]
                numbers.append(str(tasks[0].job_id).partition("_")[0])
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        if not numbers:
            _remove_new(folder, before)
        lines = [line for line in str(error).splitlines() if line.strip()]
        taken = f" after {', '.join(numbers)}, which runs" if numbers else ""
        raise InputError(f"--slurm: sbatch takes no more{taken}: {(lines or ['it has said nothing'])[-1]}") from None
    return numbers


def _remove_new(folder: pathlib.Path, before: Collection[pathlib.Path]) -> None:
    """Remove what a submission that has failed has left: files of tasks that nobody will run."""
    for path in set(folder.glob("*")) - set(before):
        path.unlink()
    with contextlib.suppress(OSError):  # not empty: of an earlier submission
        folder.rmdir()
        folder.parent.rmdir()
