"""Signals in the first moments of a program, while it is being loaded: one line, not a traceback from within an import.

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("main.py")     # then the other imports, which take a moment

This module itself imports next to nothing. `command_line.console.run_tool` takes over when the program begins.
"""

import _signal as signal  # type: ignore[import-not-found]  # the core of the module signal, which takes a moment to load
import os


def stop_quietly(name: str) -> None:
    """End the program at once, with one line, when a signal to stop comes before its work, or after it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda *_: leave(f"{name}: interrupted"))


def leave(line: str) -> None:
    """End the process with exit code 1 and nothing else: no exception that C++ code or an import could stumble over."""
    try:
        os.write(2, f"{line}\n".encode())
    finally:
        os._exit(1)
