"""Grids of thresholds, as a user writes them: "0.1:0.7:0.1" is 0.1, 0.2 .. 0.7; "0.5" is 0.5 alone."""

from utils.errors import InputError


def parse_grid(text: str) -> tuple[float, ...]:
    """first:last:step, both ends included, strictly between 0 and 1. Raises InputError."""
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) == 1:
        numbers = [numbers[0], numbers[0], 1.0]
    if len(numbers) != 3 or not (0 < numbers[0] <= numbers[1] < 1 and 1e-6 < numbers[2] <= 1):
        raise InputError(
            f"'{text}' is no grid of thresholds: write first:last:step within 0 and 1, such as 0.1:0.7:0.1"
        )
    first, last, step = numbers
    return tuple(round(first + i * step, 10) for i in range(int((last - first) / step + 1e-9) + 1))


def parse_span(text: str) -> tuple[float, float]:
    """first:last, a stretch of a grid to average over. Raises InputError."""
    grid = parse_grid(text if text.count(":") != 1 else text + ":1")
    first, _, last = text.partition(":")
    return grid[0], float(last or first)
