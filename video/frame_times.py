"""The times of a video's frames, made to rise steadily from 0 whatever the file says.

clock = FrameClock(Fraction(25))
clock.time(frame)       # seconds since the first frame, for every frame in turn
clock.lines()           # what had to be made up, in words
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

LONGEST_GAP = 60.0  # seconds between two frames; more is taken for a mistake in the times
RATES = (Fraction(1, 10), Fraction(1000))  # frames per second; others are taken for a mistake
USUAL_RATE = Fraction(25)  # frames per second, where nothing states it
BACKWARD = 1.0  # seconds; a time that is earlier by more begins a new count
STUCK = 8  # frames in a row that may be out of order; from then on their times are made up
FEW = 0.02  # of the frames, besides the last ones, which decoders give out late: not worth a word without a time of their own
LATE = 16  # frames


class Timed(Protocol):
    """A decoded frame, as libav describes it."""

    @property
    def pts(self) -> int | None: ...
    @property
    def dts(self) -> int | None: ...
    @property
    def time_base(self) -> Fraction | None: ...


class FrameClock:
    def __init__(self, stated_rate: Fraction | None, *, decoded: bool = False) -> None:
        """`stated_rate` is that of the file, frames per second, for frames that state no time.

        `decoded`: the times of decoding alone count, in a file that has no others.
        """
        self.decoded = decoded
        usable = stated_rate is not None and RATES[0] <= stated_rate <= RATES[1]
        self.frame_seconds = float(1 / (stated_rate if usable and stated_rate else USUAL_RATE))
        self.start: float | None = None  # what the file calls the time of the first frame
        self.last = 0.0
        self.frames = self.guessed = self.jumps = self.stuck = 0
        self.jumped = 0.0  # seconds that the jumps leave out
        self.disorder, self.latest = {"shown": 0, "decoded": 0}, dict[str, int]()

    def time(self, frame: Timed) -> float:
        """Seconds since the first frame, never fewer than those of the frame before."""
        self.frames += 1
        stated, following = self._stated(frame), self.last + self.frame_seconds
        if self.start is None:
            self.start = stated or 0.0
            return 0.0
        if stated is None:
            self.guessed += 1
            self.last = following
            return following
        time = stated - self.start
        if not self.last - BACKWARD < time <= self.last + LONGEST_GAP:
            self.jumps, self.jumped = self.jumps + 1, self.jumped + max(0.0, time - following)
            self.start, time = stated - following, following
        self.stuck = self.stuck + 1 if time <= self.last else 0
        if self.stuck > STUCK:
            self.guessed += 1
            self.start, time = stated - following, following
        self.last = max(self.last, time)
        return self.last

    def _stated(self, frame: Timed) -> float | None:
        """The time of showing, or that of decoding once the former was out of order more often, as it is in some AVIs."""
        ticks = {"shown": None if self.decoded else frame.pts, "decoded": frame.dts}
        for kind, value in ticks.items():
            if value is not None:
                self.disorder[kind] += value <= self.latest.get(kind, value - 1)
                self.latest[kind] = value
        first, second = (
            ("shown", "decoded") if self.disorder["shown"] <= self.disorder["decoded"] else ("decoded", "shown")
        )
        chosen = ticks[second] if ticks[first] is None else ticks[first]
        return None if chosen is None or frame.time_base is None else float(chosen * frame.time_base)

    def lines(self) -> Iterator[str]:
        made_up = f"{self.frame_seconds:.3f} s after the one before"
        if self.guessed > FEW * self.frames + min(LATE, self.frames / 2):
            yield f"{self.guessed} of {self.frames} frames state no time of their own: each is taken to be {made_up}"
        if self.jumps:
            left_out = f"; {self.jumped:.1f} s are left out" if self.jumped > 0 else ""
            yield f"its times jump ({self.jumps} x): the next frame is taken to be {made_up}{left_out}"
