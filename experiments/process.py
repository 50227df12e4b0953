"""A run as a process of its own: begun, gone on with, stopped so that it saves, and what it said last.

process = RunProcess(job, threads=2, environment={"CUDA_VISIBLE_DEVICES": "1"})
process.poll()              # its exit code, None while it runs
process.stop()              # it saves what it has
process.last_words()        # why it has ended
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping

from experiments.job import Job, State, state_of
from ranks.place import VARIABLES
from utils.printable import one_line

MOST_READ = 20_000  # bytes of a log, from its end
_PR_SET_PDEATHSIG = 1  # of Linux's prctl


class RunProcess:
    """main.py at one job, which goes on if it has begun. It stops, saved, when the process that started it ends."""

    def __init__(self, job: Job, *, threads: int | None = None, environment: Mapping[str, str] | None = None) -> None:
        """`environment` is added to this process's. Raises InputError for a folder of another run."""
        self.job, self.resumed = job, state_of(job) is State.BEGUN
        job.log.parent.mkdir(parents=True, exist_ok=True)
        alone = {name: value for name, value in os.environ.items() if name not in VARIABLES}  # no rank of another run
        with open(job.log, "ab") as log:  # after what earlier calls have said
            self._start = log.tell()
            self._process = subprocess.Popen(
                job.command(resume=self.resumed, threads=threads),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Unbuffered, so that what was said last stands last.
                env={**alone, "PYTHONUNBUFFERED": "1", **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the queue, which passes it on once
                preexec_fn=_follow(os.getpid()),
            )

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()

    def await_end(self) -> None:
        """Wait, in a handler of a signal that may have come in the midst of `poll`, which holds a lock."""
        with contextlib.suppress(ChildProcessError):  # poll has seen the end
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    def stop(self) -> None:
        """Ask it to save and end."""
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def last_words(self) -> str:
        """Why it has ended: the signal that killed it, or the last line that names its program, else the last line at all."""
        code = self._process.poll()
        if code is not None and code < 0:
            out_of_memory = ", perhaps by the system, out of memory" if code == -signal.SIGKILL else ""
            return f"was killed ({signal.Signals(-code).name}{out_of_memory})"
        try:
            with open(self.job.log, "rb") as file:
                file.seek(max(self._start, os.path.getsize(self.job.log) - MOST_READ))
                lines = [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
        except OSError:
            return "its log can't be read"
        named = [line for line in lines if line.startswith("main.py: ")]
        return one_line((named or lines or ["it has said nothing"])[-1])


def _follow(parent: int) -> Callable[[], None]:
    """What the new process does first: have the system stop it when its parent's thread ends, which is the main one."""
    library = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def follow() -> None:
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # Slurm's warning of a time-out, which is for the parent
        if library:
            library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

    return follow
