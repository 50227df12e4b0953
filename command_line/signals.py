"""The signals that ask a program to stop: Ctrl-C, SIGTERM, and SIGHUP, which comes when a terminal closes.

with stop_signals(handler): ...
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from command_line.early import leave

Handler = Callable[[int, FrameType | None], Any]


@contextlib.contextmanager
def stop_signals(handler: Handler) -> Iterator[None]:
    """Have `handler` called on these signals while the block runs; Python allows it in the main thread only.

    A SIGHUP that is ignored stays so: that is what nohup is for.
    """
    before: dict[int, Any] = {}
    try:
        with contextlib.suppress(ValueError):  # not the main thread
            for number in map(int, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, signal.SIG_DFL if earlier is None else earlier)


class Stopper:
    """A handler that ends what runs with a KeyboardInterrupt, and remembers it: C code can turn that into another error."""

    def __init__(self, line: str) -> None:
        """`line` says that the program was interrupted; the name of a signal is added to it."""
        self._line = line
        self.line: str | None = None  # once there was a signal

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.line = self._line + ("" if number == signal.SIGINT else f" ({signal.Signals(number).name})")
        if _is_importing(frame):
            leave(self.line)  # an import does not bear exceptions: torch's aborts, numpy's leaves half a module
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None
