"""Progress of long work: a bar on a terminal; elsewhere a line every half a minute, and none for short work.

for video in progress(videos, desc="reading features", unit="video"): ...

with Progress(total=100, desc="training", unit="step") as shown:
    shown.update(); shown.show(loss="0.31"); shown.report()
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

from utils.printable import one_line

SECONDS = 30.0  # between lines

Item = TypeVar("Item")


class Progress:
    """How much of `total` is done. Where stderr is no terminal, lines go to `out`, stderr if it is not given."""

    def __init__(
        self,
        *,
        total: int,
        desc: str,
        unit: str,
        initial: int = 0,
        leave: bool = True,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total, self.done, self.initial = total, initial, initial
        self.desc, self.unit, self.out, self.clock = one_line(desc), unit, out, clock
        self.start = self.reported = clock()
        self.numbers: dict[str, str] = {}
        self.bar: Any = None
        if sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                total=total,
                initial=initial,
                desc=self.desc,
                unit=unit,
                leave=leave,
                file=getattr(sys.stderr, "as_is", sys.stderr),
            )

    @property
    def is_due(self) -> bool:
        """Whether it is time for a line."""
        return self.bar is None and self.clock() - self.reported >= SECONDS

    def update(self, count: int = 1) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(count)

    def expect(self, more: int) -> None:
        """Raise the total by `more`, which may be negative: there is another amount of work than was thought."""
        self.total += more
        if self.bar is not None:
            self.bar.total = self.total
            self.bar.refresh()

    def show(self, **numbers: str) -> None:
        """Set what is shown besides the count, {name: text}."""
        self.numbers = {name: one_line(text) for name, text in numbers.items()}
        if self.bar is not None:
            self.bar.set_postfix(self.numbers)

    def report(self) -> None:
        """Print the line, where there is no bar."""
        if self.bar is None:
            self.reported = self.clock()
            print(self.line(), file=self.out or sys.stderr, flush=True)

    def line(self) -> str:
        """What is done, and how long the rest will take if it goes on as it did so far."""
        parts = [f"{self.desc}: {self.unit} {self.done:,} of {self.total:,}"]
        parts += [f"{name} {text}" for name, text in self.numbers.items()]
        if self.done > self.initial:
            each = (self.clock() - self.start) / (self.done - self.initial)
            parts += [f"{each:.3g} s per {self.unit}", f"{duration(each * (self.total - self.done))} left"]
        return ", ".join(parts)

    def write(self, line: str) -> None:
        """Print a line of its own, above the bar."""
        if self.bar is not None:
            self.bar.clear()
        print(line, flush=True)
        if self.bar is not None:
            self.bar.refresh()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()


def progress(
    items: Iterable[Item], *, desc: str, unit: str, total: int | None = None, leave: bool = True
) -> Iterator[Item]:
    """Yield `items` and show how many of them are done; `total` is needed where they have no length."""
    if total is None:
        assert isinstance(items, Sized)
        total = len(items)
    with Progress(total=total, desc=desc, unit=unit, leave=leave) as shown:
        for item in items:
            yield item
            shown.update()
            if shown.is_due:
                shown.report()


def duration(seconds: float) -> str:
    """A time for people: "48 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"
