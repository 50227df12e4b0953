"""Grids of thresholds, as a user writes them: "0.1:0.7:0.1" is 0.1, 0.2 .. 0.7; "0.5" is 0.5 alone."""

from utils.errors import InputError


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
