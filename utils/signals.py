"""The signals that ask a program to stop: Ctrl-C, SIGTERM, and SIGHUP, which comes when a terminal closes.

with stop_signals(handler): ...
"""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

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


def interrupt(number: int, _: FrameType | None) -> NoReturn:
    """A handler that ends what runs: KeyboardInterrupt, with the signal's name unless it is Ctrl-C."""
    raise KeyboardInterrupt(*([] if number == signal.SIGINT else [signal.Signals(number).name]))
