"""Stopping a run at a good moment: a signal to stop is noted, and the loop stops after its step.

with Interrupt() as interrupt:
    interrupt.requested             # look at it after every step
    with interrupt.at_once():       # work that is repeated when the run goes on, such as an evaluation, is left at once
        ...
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from command_line.signals import stop_signals


class Interrupt:
    """Handler of Ctrl-C, SIGTERM and SIGHUP while active: the first one sets `requested`, another one ends the run at once."""

    def __init__(self) -> None:
        self.requested = False
        self._at_once = False
        self._active = contextlib.ExitStack()

    def __enter__(self) -> "Interrupt":
        self._active.enter_context(stop_signals(self._on_signal))
        return self

    def __exit__(self, *_: object) -> None:
        self._active.close()

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal raise KeyboardInterrupt while the block runs."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # A terminal that closes can send SIGHUP several times: the kernel and the shell both do.
        again = self.requested and number != signal.SIGHUP
        first, self.requested = not self.requested, True
        if again or (first and self._at_once):
            raise KeyboardInterrupt
