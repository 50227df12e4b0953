"""When a run saves, and what waits in memory until then.

A new best model is copied to memory, and written with the next save, just before last.pt. So best.pt, detections_best.json,
last.pt and results.json are of one moment, whenever a run is killed: what was computed since is computed again on --resume.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from run.checkpoint import Checkpoint
from utils.segments import Segments

# A regular save waits at least this many times as long as the one before it took: saving is a tenth of the time at most.
SAVING_SHARE = 10


@dataclass(frozen=True, kw_only=True)
class BestModel:
    """The best evaluation's model and detections, not written yet."""

    checkpoint: Checkpoint  # with its tensors on the host, copied
    detections: Segments


class SaveClock:
    """Whether a regular save is due. `minutes` is the least time between two; 0: every one is due, whatever it costs."""

    def __init__(self, *, minutes: float, now: Callable[[], float] = time.monotonic) -> None:
        self.minutes, self._now = minutes, now
        self._ended: float | None = None
        self._took = 0.0

    def is_due(self) -> bool:
        """The first always is."""
        if self._ended is None or self.minutes == 0:
            return True
        return self._now() - self._ended >= max(60 * self.minutes, SAVING_SHARE * self._took)

    @contextlib.contextmanager
    def measured(self) -> Iterator[None]:
        """Around a save."""
        start = self._now()
        yield
        self._ended = self._now()
        self._took = self._ended - start
