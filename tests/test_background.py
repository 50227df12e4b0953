"""Worker processes: their results in order, their deaths with a place, and their end with this process."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from support.jobs import work
from support.paths import ROOT

from run import background
from run.background import Worker, WorkerFailed
from utils.errors import InputError


@pytest.fixture
def worker():
    with contextlib.closing(Worker(work)) as worker:
        yield worker


def test_results_come_in_the_order_of_the_jobs(worker):
    for job in range(5):
        worker.submit(job)
    assert [worker.result() for _ in range(5)] == [0, 2, 4, 6, 8]
    assert not worker.is_ready()
    large = np.arange(10**6)  # more than a pipe holds
    worker.submit(large)
    worker.submit("processes")
    assert np.array_equal(worker.result(), 2 * large)
    assert worker.result() == (worker.pid, os.getpid())


def test_what_is_refused_is_refused_here_and_the_next_job_is_done(worker):
    worker.submit("refuse")
    worker.submit(1)
    with pytest.raises(InputError, match=r"^--job refuse: is refused$") as caught:
        worker.result()
    assert (caught.value.details, caught.value.hint) == (("a detail",), "a hint")
    assert worker.result() == 2


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        ("memory", r"failed \(MemoryError: no room\)"),
        ("die", r"was killed \(SIGKILL\)"),
        ("die of 40", r"was killed \(40\)"),
        ("leave", "ended with code 3"),
    ],
)
def test_a_failure_is_told_with_its_place(worker, job, reason):
    worker.submit(1)
    worker.submit(job)
    assert worker.result() == 2
    with pytest.raises(WorkerFailed, match=reason) as caught:
        worker.result()
    assert caught.value.where == f"job {job}"


def test_a_worker_killed_between_jobs_was_at_none(worker):
    worker.submit(1)
    assert worker.result() == 2
    os.kill(worker.pid, signal.SIGKILL)
    for _ in range(2):  # the second is perhaps sent into a closed pipe
        worker.submit(np.zeros(10**6))
    assert worker.is_ready()
    for _ in range(2):
        with pytest.raises(WorkerFailed, match="was killed") as caught:
            worker.result()
        assert caught.value.where is None


@pytest.mark.parametrize("size", [1, 10**6], ids=["an answer is waited for", "more is sent than a pipe holds"])
def test_one_that_hangs_is_ended(worker, monkeypatch, size):
    worker.submit(1)
    assert worker.result() == 2
    monkeypatch.setattr(background, "PATIENCE", 1)
    worker.submit("hang")
    time.sleep(0.1)  # until it does
    worker.submit(np.zeros(size))
    for _ in range(2):
        with pytest.raises(WorkerFailed, match="did not answer for 1 seconds and was ended") as caught:
            worker.result()
        assert caught.value.where == "job hang"


def test_signals_to_stop_pass_it_by(worker):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker.pid, number)  # even before it has begun
    worker.submit(1)
    assert worker.result() == 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(worker.pid, number)
    worker.submit(2)
    assert worker.result() == 4
    assert not {signal.SIGINT, signal.SIGTERM, signal.SIGHUP} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_closing_ends_it_whatever_it_is_at(worker):
    worker.submit("sleep")
    worker.close()
    assert not pathlib.Path(f"/proc/{worker.pid}").exists()


@pytest.mark.parametrize("package", ["", "sal.program."])
def test_it_ends_with_a_process_that_is_killed(package):
    """Also where the program's modules have their long names."""
    code = f"""
import sys, time
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import {"sal" if package else "run"}
from {package}run.background import Worker
import support.jobs
worker = Worker(support.jobs.work)
worker.submit("processes")
print(worker.result()[0], flush=True)
worker.submit("sleep")
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd="/") as process:
        pid = int(process.stdout.readline())
        process.kill()
    until = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid):
    """Whether there is such a process that is more than an entry for its parent to read."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
