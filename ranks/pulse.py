"""Signs of life: every rank shows one a second, and a rank that shows none any more ends the job, named.

    pulse = Pulse(store, rank=0, hosts=("a", "b"), seconds=45)      # begins at once
    pulse.rank_is_lost()                                            # when a collective has failed
    pulse.close()

Rank 0 watches all others, they watch rank 0. A rank whose connection breaks makes collectives fail at once; one that hangs, or
whose machine is gone, does not: then this thread ends its process, which may wait in a collective for ever.
"""

import os
import sys
import threading
import time
from collections.abc import Sequence

from torch.distributed import Store

from utils.printable import one_line

OVER = "over"  # the key that rank 0 sets once it knows that the job has failed, which it tells alone
AFTER_FAILURE = 6.0  # seconds without a sign of life that are enough once a collective has failed
GRACE = 5.0  # seconds that a process may take to end by itself once it is known that another one has


class Pulse:
    """A thread; `verdict` says, in one line, why the job can't go on, and is empty while it can, or where rank 0 says why."""

    def __init__(self, store: Store, *, rank: int, hosts: Sequence[str], seconds: float) -> None:
        """`store` is used by this thread alone. `seconds` without a sign of life are the end of a rank."""
        self.store, self.rank, self.hosts, self.seconds = store, rank, tuple(hosts), seconds
        self.patience = seconds
        self.verdict = ""
        self._decided, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pulse", daemon=True)
        show_life(store, rank, 0)
        self._thread.start()

    def rank_is_lost(self) -> bool:
        """Whether a collective has failed because a rank has ended, which is known once that misses a few signs of life."""
        self.patience = min(self.seconds, AFTER_FAILURE)
        return self._decided.wait(self.patience + GRACE)

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
                show_life(self.store, self.rank, beat)
                if self.rank and self.store.check([OVER]):
                    self._end()
                self.verdict = self._look(seen)
            except RuntimeError:  # as all errors of a store are
                self.verdict = f"{self._named(0)} has ended, or its machine can't be reached"
            if self.verdict and not self._closed.is_set():
                self._end()

    def _look(self, seen: dict[int, tuple[bytes, float]]) -> str:
        """The verdict, empty while all is well."""
        for rank, (before, since) in seen.items():
            if self.store.check([f"failed/{rank}"]):
                return f"{self._named(rank)}: {self.store.get(f'failed/{rank}').decode()}"
            now = self.store.get(f"pulse/{rank}")
            if now != before:
                seen[rank] = now, time.monotonic()
            elif time.monotonic() - since > self.patience:
                return f"{self._named(rank)} has ended, or hangs: no sign of life for {self.patience:g} s"
        return ""

    def _end(self) -> None:
        """Give the process time to end, since it may be in no collective; then end it."""
        if self.rank == 0:
            self.store.set(OVER, "")
        self._decided.set()
        if self._closed.wait(GRACE):
            return
        if self.speaks:
            print(f"main.py: {one_line(self.verdict, longest=1000)}", file=sys.__stderr__, flush=True)
        os._exit(1)

    def _named(self, rank: int) -> str:
        return f"rank {rank} (on {one_line(self.hosts[rank])})"


def show_life(store: Store, rank: int, beat: int) -> None:
    store.set(f"pulse/{rank}", str(beat))
