"""Signs of life: every rank shows one a second, and a rank that shows none any more ends the job, named.

    pulse = Pulse(store, rank=0, hosts=("a", "b"), seconds=30)      # begins at once
    with pulse.waiting(): dist.all_reduce(...)                      # around what other ranks take part in
    pulse.close()

Rank 0 watches all others, they watch rank 0. A rank whose connection breaks makes collectives fail at once; one that hangs, or
whose machine is gone, does not: then this thread ends its process, but only while that waits for others. What it does alone,
such as saving, it may end.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from torch.distributed import Store

from utils.errors import InputError, TrainingError
from utils.printable import one_line

OVER = "over"  # the key that rank 0 sets once it knows that the job has failed, which it tells alone
AFTER_FAILURE = 6.0  # seconds without a sign of life that are enough once a collective has failed
GRACE = 5.0  # seconds that a process may take to end by itself once it is known that another one has
STUCK = 10  # times as long may a rank be busy while another one waits for it


class Pulse:
    """A thread, on other ranks than 0 two. `verdict` says, in one line, why the job can't go on.

    It is empty while the job can, and where rank 0 says why.
    """

    def __init__(self, store: Store, *, rank: int, hosts: Sequence[str], seconds: float) -> None:
        """`store` is used by this thread alone. `seconds` without a sign of life are the end of a rank."""
        self.store, self.rank, self.hosts, self.seconds = store, rank, tuple(hosts), seconds
        self.patience = seconds
        self.verdict, self.is_mistake = "", False  # of the input
        self.moves = 0  # how far this process has come: changes whenever it begins and ends to wait, and in long work
        self._waits_since: float | None = None
        self._moved: dict[int, tuple[int, float]] = {}  # of each rank, its moves and when they were new
        self._decided, self._closed = threading.Event(), threading.Event()
        self._looked = time.monotonic()
        show_life(store, rank)
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        self._thread.start()
        if rank:
            threading.Thread(target=self._guard, name="pulse guard", daemon=True).start()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what fails when another rank ends: the error then names that rank. Other errors stay what they are."""
        self.check()
        self.moves += 1
        self._waits_since = time.monotonic()
        try:
            yield
        except RuntimeError:  # as all errors of a store and a collective are
            self.patience = min(self.seconds, AFTER_FAILURE)
            if self._decided.wait(self.patience + GRACE):
                self.check()
            raise
        finally:
            self._waits_since = None
            self.moves += 1

    def check(self) -> None:
        """Raise the verdict: TrainingError, or InputError where a rank's input is wrong."""
        if self._decided.is_set():
            raise (InputError if self.is_mistake else TrainingError)(self.verdict)

    @property
    def speaks(self) -> bool:
        """Whether this rank tells the verdict: rank 0 does, and where rank 0 is what has ended, rank 1."""
        return bool(self.verdict) and self.rank <= 1

    def close(self) -> None:
        self._closed.set()
        self._thread.join(GRACE)

    def _watch(self) -> None:
        others = range(1, len(self.hosts)) if self.rank == 0 else [0]
        seen = dict.fromkeys(others, (b"", time.monotonic()))
        beat, interval = 0, min(1.0, self.seconds / 10)
        while not self._closed.wait(interval):
            beat += 1
            try:
                show_life(self.store, self.rank, beat, moves=self.moves, waits=self._waits_since is not None)
                over = self._look(seen)
            except RuntimeError:  # as all errors of a store are
                self.verdict, over = f"{self._named(0)} has ended, or its machine can't be reached", True
            self._looked = time.monotonic()
            if over and not self._closed.is_set():
                self._end()
                return

    def _guard(self) -> None:
        """A store on a machine that is gone does not answer, and then `_watch` waits for ever."""
        while not self._closed.wait(min(1.0, self.seconds / 10)):
            if time.monotonic() - self._looked > self.seconds and not self._decided.is_set():
                self.verdict = f"{self._named(0)} or its machine can't be reached: no answer for {self.seconds:g} s"
                self._end()
                return

    def _look(self, seen: dict[int, tuple[bytes, float]]) -> bool:
        """Whether the job can't go on; sets the verdict. `seen` is what each rank has shown last, and when that was new."""
        if self.rank and self.store.check([OVER]):
            return True  # rank 0 says why
        for rank in seen:
            if self.store.check([f"failed/{rank}"]):
                failure = json.loads(self.store.get(f"failed/{rank}"))
                self.verdict = f"{self._named(rank)}: {failure['message']}"
                self.is_mistake = failure["is_mistake"]
            elif not self._lives(rank, seen):
                self.verdict = f"{self._named(rank)} has ended, or hangs: no sign of life for {self.patience:g} s"
            elif self.rank == 0 and self._is_stuck(rank):
                self.verdict = (
                    f"{self._named(rank)} hangs: the others have waited for it for {STUCK * self.seconds:g} s"
                )
        return bool(self.verdict)

    def _lives(self, rank: int, seen: dict[int, tuple[bytes, float]]) -> bool:
        now, (before, since) = self.store.get(f"pulse/{rank}"), seen[rank]
        if now != before:
            seen[rank] = now, time.monotonic()
            return True
        return time.monotonic() - since <= self.patience

    def _is_stuck(self, rank: int) -> bool:
        """Whether this process waits for a rank that lives, does not wait, and does not move either."""
        moves, waits = json.loads(self.store.get(f"pulse/{rank}"))[1:]
        before, since = self._moved.get(rank, (None, 0.0))
        if waits or moves != before or self._waits_since is None:
            self._moved[rank] = moves, time.monotonic()
            return False
        return time.monotonic() - max(since, self._waits_since) > STUCK * self.seconds

    def _end(self) -> None:
        """Have the process end once it waits for others, which can be in vain, for ever."""
        if self.rank == 0:
            with contextlib.suppress(RuntimeError):
                self.store.set(OVER, "")
        self._decided.set()
        while not self._closed.wait(GRACE / 10):
            if self._waits_since is not None and time.monotonic() - self._waits_since > GRACE:
                if self.speaks:
                    print(f"main.py: {one_line(self.verdict, longest=1000)}", file=sys.__stderr__, flush=True)
                os._exit(1 if self.verdict else 0)  # where rank 0 says why, its code is the job's

    def _named(self, rank: int) -> str:
        return f"rank {rank} (on {one_line(self.hosts[rank])})"


def show_life(store: Store, rank: int, beat: int = 0, *, moves: int = 0, waits: bool = False) -> None:
    store.set(f"pulse/{rank}", json.dumps([beat, moves, waits]))
