"""The fuzz: how many cases, and what every command promises whatever it is given.

    @fuzz(200, arguments=command_lines())          # 200 cases in the usual profile, 50 times as many in the long one
    def test_...(arguments):
        outcome = promised(tool, arguments, folder)

Usually the cases are the same in every run. `SAL_FUZZ=long` draws new ones; the seed is printed with a failure, and
`SAL_FUZZ_SEED=N` repeats it. With `SAL_FUZZ_COUNT=FILE` no case ends a test: each adds a line to the file,
"TEST<tab>survived" or "TEST<tab>lost<tab>why", of which docs/reliability.md has the sums.
"""

import contextlib
import functools
import io
import json
import os
import pathlib
import random
import resource
import signal
import tempfile
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, note, seed, settings
from hypothesis.errors import HypothesisException
from hypothesis.strategies import SearchStrategy

from support.disk import contents

LONG = os.environ.get("SAL_FUZZ") == "long"
TIMES_LONGER = 50
SEED = int(os.environ.get("SAL_FUZZ_SEED", random.randrange(2**32)))

COUNTS = os.environ.get("SAL_FUZZ_COUNT")

SECONDS = 20  # that one case may take; most take milliseconds
SPARE_MEMORY = 4 << 30  # bytes that one case may allocate
LONGEST_LINE = 2500  # characters: a screen
MOST_LINES = 12  # an error is one line; other mistakes in the same input may stand before it, indented
SHOWN_CONTROLS = "\n\t"  # the control characters that may reach a terminal
TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

Tool = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


class TookTooLong(BaseException):
    """A case took more than SECONDS. Not an Exception, so that no reader takes it for a damaged file."""


def fuzz(examples: int, **strategies: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A test of this many cases. What is not among the strategies is a fixture, of the session or the module."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def case(*args: Any, **kwargs: Any) -> None:
            if LONG:
                note(f"repeat it with SAL_FUZZ=long SAL_FUZZ_SEED={SEED}")
            (counted_case if COUNTS else one_case)(test, *args, **kwargs)

        chosen = settings(
            max_examples=examples * (TIMES_LONGER if LONG else 1),
            derandomize=not LONG,
            database=None,
            deadline=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
        )
        made = chosen(given(**strategies)(case))
        return seed(SEED)(made) if LONG else made

    return decorate


def one_case(test: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Run one case within the limits."""
    with time_limit(SECONDS), memory_limit(SPARE_MEMORY):
        test(*args, **kwargs)


def counted_case(test: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Run one case and write down how it ended; what hypothesis raises for itself passes through."""
    end = "survived"
    try:
        one_case(test, *args, **kwargs)
    except HypothesisException:
        raise
    except (Exception, TookTooLong) as error:
        end = f"lost\t{type(error).__name__}: {' '.join(ascii(str(error)).split())[:300]}"
    with open(str(COUNTS), "a", encoding="utf-8") as file:
        file.write(f"{test.__name__}\t{end}\n")


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    def ring(*_: object) -> None:
        raise TookTooLong(f"more than {seconds} s")

    start, before = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    signal.setitimer(
        signal.ITIMER_REAL, seconds, 1
    )  # again and again: what rings in a callback of Python's own is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if time.monotonic() - start > seconds:
        ring()


@contextlib.contextmanager
def fresh_folder() -> Iterator[pathlib.Path]:
    """An empty folder for one case."""
    with tempfile.TemporaryDirectory(prefix="sal-fuzz-") as name:
        yield pathlib.Path(name)


@contextlib.contextmanager
def memory_limit(spare: int) -> Iterator[None]:
    """Let the process allocate this many bytes more than it has: a case must not take the machine down."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + spare, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def promised(tool: Tool, arguments: Sequence[str], folder: pathlib.Path, *, encoding: str = "utf-8") -> Outcome:
    """Call a command, as `main` of its module, and check every promise; `folder` holds all that it may write."""
    before = contents(folder)
    outcome = called(tool, arguments, encoding=encoding)
    assert outcome.code in (0, 1, 2)
    for text in (outcome.out, outcome.err):
        assert not unsafe_characters(text), f"raw control characters {unsafe_characters(text)} in {text[:300]!r}"
    lines = [line for line in outcome.err.splitlines() if not line.lower().startswith("warning")]
    assert max(map(len, lines), default=0) <= LONGEST_LINE, f"a line of {max(map(len, lines))} characters"
    if outcome.code == 2 and not outcome.out:
        *others, error = lines[:-1] if lines[-1].startswith("  -> ") else lines
        assert "error: " in error and not error[0].isspace(), outcome.err[:1000]
        assert len(others) < MOST_LINES and all(line.startswith("    ") for line in others), outcome.err[:1000]
        assert contents(folder).keys() == before.keys(), "a refused command has written something"
    assert not list(folder.rglob("*.tmp")), "a half-written file is left"
    check_json_files(folder, since=before)
    return outcome


def called(tool: Tool, arguments: Sequence[str], *, encoding: str = "utf-8") -> Outcome:
    """Call a command with the streams that a process has: strict stdout, and stderr that escapes what it can't encode."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors, write_through=True)
        for errors in ("strict", "backslashreplace")
    )
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(record=True) as noise,
    ):
        warnings.simplefilter("always")
        try:
            code = tool(arguments)
        except SystemExit as stop:  # --help
            code = 0 if stop.code is None else stop.code
    shown = [w for w in noise if issubclass(w.category, UserWarning | RuntimeWarning)]
    assert not shown, f"a warning of a library reaches the user: {shown[0].message}"
    texts = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))
    return Outcome(code, *texts)


def unsafe_characters(text: str) -> list[str]:
    """What a text would do to the terminal: control characters, and those that turn the direction of writing."""
    return sorted(
        {c for c in text if (unicodedata.category(c) in ("Cc", "Cs") and c not in SHOWN_CONTROLS) or c in TURNING}
    )


def check_json_files(folder: pathlib.Path, *, since: dict[str, bytes | None]) -> None:
    """Every JSON file that was written is strict JSON: whole, and without NaN or Infinity, which JSON does not have."""
    for file in folder.rglob("*.json"):
        if file.is_file() and file.relative_to(folder).as_posix() not in since:
            strict_json(file.read_text(encoding="utf-8"))


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)
