"""Intervals of numbers, and grids of thresholds as a user writes them: "0.1:0.7:0.1" is 0.1, 0.2 .. 0.7; "0.5" is 0.5 alone."""

import sys
from dataclasses import dataclass

from utils.errors import InputError

SMALLEST_THRESHOLD = 1e-4  # in ten digits, far smaller ones would be 0, which everything reaches
MOST_THRESHOLDS = 1000


@dataclass(frozen=True)
class Interval:
    """Numbers between two ends, as in "(0,1]": a bracket includes its end, a parenthesis does not."""

    low: float
    high: float
    low_included: bool
    high_included: bool

    @staticmethod
    def parse(text: str) -> "Interval":
        low, high = text[1:-1].split(",")
        return Interval(low=float(low), high=float(high), low_included=text[0] == "[", high_included=text[-1] == "]")

    def __str__(self) -> str:
        ends = f"{self.low:.10g},{self.high:.10g}"
        return ("[" if self.low_included else "(") + ends + ("]" if self.high_included else ")")

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or abs(value) > sys.float_info.max:  # infinite, or too large for a float
            return False
        above = value >= self.low if self.low_included else value > self.low
        return above and (value <= self.high if self.high_included else value < self.high)


def parse_grid(text: str) -> tuple[float, ...]:
    """Parse first:last:step, both ends included and strictly between 0 and 1; or one number. Raises InputError."""
    numbers = _numbers(text)
    if len(numbers) == 1:
        numbers = [numbers[0], numbers[0], 1.0]
    if len(numbers) != 3 or not (0 < numbers[0] <= numbers[1] < 1 and 1e-6 < numbers[2] <= 1):
        raise InputError(
            f"'{text}' is not a grid of thresholds: write first:last:step between 0 and 1, such as 0.1:0.7:0.1"
        )
    first, last, step = numbers
    if first < SMALLEST_THRESHOLD or (last - first) / step >= MOST_THRESHOLDS:
        raise InputError(f"'{text}': give at most {MOST_THRESHOLDS} thresholds, none below {SMALLEST_THRESHOLD:g}")
    return tuple(round(first + i * step, 10) for i in range(int((last - first) / step + 1e-9) + 1))


def parse_span(text: str) -> tuple[float, float]:
    """Parse first:last, a range of thresholds to average over; or one number. Raises InputError."""
    numbers = _numbers(text)
    if len(numbers) not in (1, 2) or not 0 < numbers[0] <= numbers[-1] < 1:
        raise InputError(f"'{text}' is not a range of thresholds: write first:last between 0 and 1, such as 0.1:0.7")
    return numbers[0], numbers[-1]


def in_span(value: float, span: tuple[float, float]) -> bool:
    """Whether a threshold lies within first .. last, both included, up to rounding."""
    return span[0] - 1e-9 <= value <= span[1] + 1e-9


def _numbers(text: str) -> list[float]:
    """The numbers between the colons; empty if one of them is not a number."""
    try:
        return [float(part) for part in text.split(":")]
    except ValueError:
        return []
