"""Output that can do no harm: where it fails it is dropped, and names in it can't control the terminal.

with guarded_output():
    print(name)             # also into a closed pipe, a full disk, a terminal that is gone, or one that knows ASCII alone
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from utils.printable import printable


class GuardedStream:
    """A text stream that never raises: once it has failed, what is written is dropped. Control characters are escaped."""

    def __init__(self, stream: TextIO | None, *, escaping: bool = True) -> None:
        """Guard `stream`; None, as Python calls a stream that was closed before it started, drops everything."""
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115
        self._escaping = escaping
        self._failed = False
        if isinstance(self._stream, io.TextIOWrapper):
            with contextlib.suppress(OSError, ValueError):
                self._stream.reconfigure(errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        if not self._failed:
            with self._dropping():
                self._stream.write(printable(text) if self._escaping else text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if not self._failed:
            with self._dropping():
                self._stream.flush()

    def isatty(self) -> bool:
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    @property
    def as_is(self) -> "GuardedStream":
        """The same stream for text that may control the terminal, such as a progress bar."""
        return GuardedStream(self._stream, escaping=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BlockingIOError:  # the reader is slow and asked not to be waited for: this text is lost, not the next
            pass
        except (OSError, ValueError):
            self._failed = True
            _point_nowhere(self._stream)


@contextlib.contextmanager
def guarded_output() -> Iterator[None]:
    """Guard sys.stdout and sys.stderr while the block runs."""
    before = sys.stdout, sys.stderr
    _open_standard_files()
    sys.stdout, sys.stderr = guarded = (GuardedStream(before[0]), GuardedStream(before[1]))
    try:
        yield
    finally:
        for stream in guarded:
            stream.flush()
        sys.stdout, sys.stderr = before


def _open_standard_files() -> None:
    """Open what the shell has closed (>&-): the number would go to a file of ours, and C code writes its messages there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def _point_nowhere(stream: TextIO) -> None:
    """Let what is still in the buffers of a standard stream go to /dev/null: Python flushes them when it exits."""
    with contextlib.suppress(OSError, ValueError):
        if stream.fileno() in (1, 2):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
