"""Functions for worker processes, which import them from here."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from utils.errors import InputError


def work(job: Any, begin: Callable[[Any], None]) -> Any:
    """Do what the job says: a number to be doubled, or the name of a way to end without a result."""
    if not isinstance(job, str):
        return 2 * job
    begin(f"job {job}")
    if job == "refuse":
        raise InputError("--job refuse: is refused", details=["a detail"], hint="a hint")
    if job == "memory":
        raise MemoryError("no room")
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "die of 40":  # a signal without a name
        os.kill(os.getpid(), 40)
    if job == "leave":
        os._exit(3)
    if job == "hang":
        os.kill(os.getpid(), signal.SIGSTOP)
    if job == "sleep":
        time.sleep(60)
    return os.getpid(), os.getppid()


def die(job: Any, begin: Callable[[Any], None]) -> None:
    """End the process, as a library may that aborts."""
    os.kill(os.getpid(), signal.SIGKILL)
