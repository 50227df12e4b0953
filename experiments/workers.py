"""A queue of runs on this machine: one worker per GPU, or several on the CPUs with their share of the threads.

    slots = make_slots(jobs=None, device="auto", runs=len(jobs))
    work_off(jobs, slots, title="seeds")                        # state_of tells what has come of each

A run that has begun goes on, one that another process has is left to it. A run that fails does not stop the others.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from command_line.progress import Progress, duration
from eval.tables import percent
from experiments.job import Job, State, state_of
from experiments.process import RunProcess
from formats.names import amount
from formats.run_results import evaluations, read_results
from run.lock import FolderLock, InUse
from utils.errors import InputError
from utils.processors import usable_cpus

POLL = 0.1  # seconds between looks at the runs


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where one run at a time is made."""

    place: str  # in words
    threads: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def make_slots(*, jobs: int | None, device: str, runs: int) -> list[Slot]:
    """One slot per GPU that is visible, else one; or `jobs` of them, which share the GPUs, or the CPUs' threads.

    No more than there are runs to make. Raises InputError for a --device that workers can't have.
    """
    gpus = [] if device == "cpu" else _visible_gpus()
    count = min(jobs or len(gpus) or 1, max(runs, 1))
    alone = count == 1 or "OMP_NUM_THREADS" in os.environ  # main.py then chooses by itself
    threads = None if alone else max(1, usable_cpus() // count)
    if not gpus and device != "cpu" and device != "auto":
        raise InputError(f"--device {device}: there is no GPU here; leave it out, or give --device cpu")
    if not gpus:
        return [Slot(place=f"CPU ({amount(threads, 'thread')})" if threads else "CPU", threads=threads)] * count
    if device not in ("auto", "cuda"):
        raise InputError(f"--device {device}: each worker has a GPU of its own; choose them by CUDA_VISIBLE_DEVICES")
    of_each = [gpus[i % len(gpus)] for i in range(count)]
    return [Slot(place=f"GPU {gpu}", threads=threads, environment={"CUDA_VISIBLE_DEVICES": gpu}) for gpu in of_each]


def _visible_gpus() -> list[str]:
    """As CUDA_VISIBLE_DEVICES names them, or would."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(i) for i in range(count)] if named is None else [name.strip() for name in named.split(",")][:count]


def work_off(jobs: Sequence[Job], slots: Sequence[Slot], *, title: str, done: int = 0) -> None:
    """Make every run, in order; `done` others are already. Interrupted, the runs stop saved; again, at once."""
    waiting, running = deque(jobs), dict[int, _Running]()
    with Progress(total=done + len(jobs), desc=title, unit="run", initial=done, out=sys.stdout) as shown:
        try:
            while waiting or running:
                free = [i for i in range(len(slots)) if i not in running]
                while waiting and free:
                    job = waiting.popleft()
                    if state_of(job) is State.DONE:  # by another process meanwhile
                        shown.update()
                        continue
                    i = free.pop(0)
                    running[i] = _Running(job, slots[i])
                    shown.write(running[i].beginning)
                time.sleep(POLL)
                for i in [i for i, each in running.items() if each.process.poll() is not None]:
                    ended = running.pop(i)
                    shown.update()
                    shown.write(ended.outcome())
                    shown.report()
        finally:
            if running:
                shown.write(f"stopping {amount(len(running), 'run')}: each saves first; asked again, all end at once")
            _stop([each.process for each in running.values()])


class _Running:
    def __init__(self, job: Job, slot: Slot) -> None:
        self.job, self.start = job, time.monotonic()
        self.process = RunProcess(job, threads=slot.threads, environment=slot.environment)
        begins = "goes on," if self.process.resumed else "begins"
        self.beginning = f"{job.name}: {begins} on {slot.place}; what it prints is in {job.log}"

    def outcome(self) -> str:
        """What came of the ended process, in a line."""
        name = self.job.name
        if state_of(self.job) is State.DONE:
            return f"{name}: {score_of(self.job)}, {duration(time.monotonic() - self.start)}"
        try:
            with FolderLock(self.job.folder):
                pass
        except InUse as error:
            return f"{name}: left to another process ({str(error).partition(';')[0]})"
        return f"{name}: failed: {self.process.last_words()}; all it printed is in {self.job.log}"


def score_of(job: Job) -> str:
    """What a finished run has reached: "last 27.6 %, best 30.6 % average mAP 0.1:0.7"."""
    found = evaluations(read_results(job.folder))
    averages = {name: evaluation["average_mAP"] for name, evaluation in reversed(found.items())}
    if not all(averages.values()):
        return "finished, without annotated segments to measure by"
    span = list(next(iter(averages.values())))[-1]
    return f"{', '.join(f'{name} {percent(of[span])}' for name, of in averages.items())} average mAP {span}"


def _stop(processes: Sequence[RunProcess]) -> None:
    """Have them save and wait for that; end them at once when somebody is impatient."""
    for process in processes:
        process.stop()
    try:
        for process in processes:
            process.wait()
    except BaseException:
        for process in processes:
            process.kill()
            process.wait()
        raise
