"""A worker process: calls of one function, made in the background, one after the other in the order they were asked for.

    worker = Worker(function)           # function(job, begin) -> result; begin(where) says what it is at
    worker.submit(job)
    if worker.is_ready(): result = worker.result()
    worker.close()

The process starts afresh, without the memory, the threads and the GPU of this one, and imports what the function needs and
nothing else: jobs and results are pickled. Signals to stop pass it by. It ends with the process that started it, however that
ends.
"""

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from utils.errors import InputError

Job = TypeVar("Job")
Result = TypeVar("Result")

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE = 10.0  # seconds that a process whose pipe is closed may take to end
PATIENCE = 120  # seconds that this process waits for a word of the worker: the longest part of a call takes a few


class WorkerFailed(Exception):
    """A call without a result, though the input is not to blame: the process was killed or hung, or the function failed."""

    def __init__(self, reason: str, where: Any) -> None:
        """`where` is what the call had last said it is at, None for nothing."""
        super().__init__(reason)
        self.where = where


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A message from the worker: what its call is at."""

    where: Any


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """A message from the worker: how its call has ended."""

    where: Any = None  # what it was at
    result: Any = None
    refused: InputError | None = None
    failed: str = ""


class Worker(Generic[Job, Result]):
    """A process that calls `function`, which can be pickled."""

    def __init__(self, function: Callable[[Job, Callable[[Any], None]], Result]) -> None:
        """Start it, without waiting until it runs. Raises OSError when the system has no room for another process."""
        self._connection, theirs = Pipe()
        self._ended: deque[_Ended] = deque()
        self._where: Any = None
        self._hangs = False
        # The program's modules are found where they were found here, under the names that they have here (sal/_program.py).
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({theirs.fileno()})"
        # Blocked signals are inherited by the process, from its first moment.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", code],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            theirs.close()
        self.pid = self._process.pid
        self.submit(function)  # type: ignore[arg-type]  # the first message, before any job

    def submit(self, job: Job) -> None:
        """Ask for a call."""
        with contextlib.suppress(OSError), self._waited_for():  # an error: it has died, which `result` tells
            self._connection.send(job)

    def is_ready(self) -> bool:
        """Whether `result` would not wait."""
        while not self._ended and self._connection.poll():
            if not self._receive():
                return True
        return bool(self._ended)

    def result(self) -> Result:
        """The result of the earliest call whose result was not asked for yet.

        Raises InputError when the function did, WorkerFailed when there is none.
        """
        while not self._ended:
            if not self._receive():
                raise WorkerFailed(self._death(), self._where)
        ended = self._ended.popleft()
        if ended.refused:
            raise ended.refused
        if ended.failed:
            raise WorkerFailed(ended.failed, ended.where)
        result: Result = ended.result
        return result

    def close(self) -> None:
        """End the process, whatever it is at."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    def _receive(self) -> bool:
        """Wait for a message; False when there will be none."""
        try:
            with self._waited_for():
                message = self._connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            return False
        if isinstance(message, _Begun):
            self._where = message.where
        else:
            self._ended.append(replace(message, where=self._where))
            self._where = None
        return True

    @contextlib.contextmanager
    def _waited_for(self) -> Iterator[None]:
        """Around a wait for the worker: one that hangs, even halfway through a message, is killed, which ends the wait."""
        answered = threading.Event()

        def watch() -> None:
            for _ in range(PATIENCE):  # seconds in which this process runs: Ctrl-Z stops both
                if answered.wait(1):
                    return
            self._hangs = True
            self._process.kill()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            answered.set()

    def _death(self) -> str:
        try:
            code = self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return "fell silent"
        if self._hangs:
            return f"did not answer for {PATIENCE} seconds and was ended"
        names = {number.value: number.name for number in signal.Signals}  # but for most real-time signals
        return f"was killed ({names.get(-code, -code)})" if code < 0 else f"ended with code {code}"


def serve(descriptor: int) -> None:
    """The process's work: receive the function, then jobs, until the other end is closed."""
    connection = Connection(descriptor)
    received = queue.SimpleQueue[Any]()
    threading.Thread(target=_read, args=(connection, received), daemon=True).start()
    function = received.get()
    while True:
        connection.send(_call(function, received.get(), lambda where: connection.send(_Begun(where=where))))


def _read(connection: Connection, received: "queue.SimpleQueue[Any]") -> None:
    """Receive ahead of the work, so that nobody waits to send, and the end of the other process is the end of this one."""
    try:
        while True:
            received.put(connection.recv())
    finally:
        os._exit(1)


def _call(function: Callable[..., Any], job: Any, begin: Callable[[Any], None]) -> _Ended:
    try:
        return _Ended(result=function(job, begin))
    except InputError as error:
        return _Ended(refused=error)
    except Exception as error:
        return _Ended(failed=f"failed ({type(error).__name__}: {error})")
