"""The curves of a run as lines of JSON, one for each moment that wrote some: {"step": 10, "values": {"loss/total": 1.5}}.

    append_point(file, {"loss/total": 1.5}, step=10)
    points = read_points(path)                      # [(10, "loss/total", 1.5)]
    drop_points(path, first_step=11)                # of a run that goes on after step 10

A value that is not finite is null. A run that was killed may leave half a last line, which counts as not written.
"""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from formats.regular_files import check_regular
from utils.atomic import write_file
from utils.errors import InputError

CURVES = "curves.jsonl"
Point = tuple[int, str, float]


def append_point(file: BinaryIO, values: Mapping[str, float], *, step: int) -> None:
    """Write one line to a file that is open for appending. Raises OSError."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    file.write(json.dumps({"step": step, "values": finite}, allow_nan=False).encode() + b"\n")
    file.flush()


def read_points(path: pathlib.Path) -> list[Point]:
    """(step, curve, value) of every point, in the order written; the later of two of one step and curve. Missing file: none.

    Raises InputError naming the line that is not as `append_point` writes it.
    """
    points = {(step, name): value for step, values in _lines(path) for name, value in values.items()}
    return [(step, name, value) for (step, name), value in points.items()]


def drop_points(path: pathlib.Path, *, first_step: int) -> None:
    """Keep the points before `first_step` alone, if the file is there. Raises InputError."""
    if not path.exists():
        return
    kept = [(step, values) for step, values in _lines(path) if step < first_step]

    def write(file: BinaryIO) -> None:
        for step, values in kept:
            append_point(file, values, step=step)

    write_file(path, write)


def _lines(path: pathlib.Path) -> Iterator[tuple[int, dict[str, float]]]:
    try:
        check_regular(path)
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    *whole, _ = data.split(b"\n")  # after the last line break: nothing, or half a line
    for number, line in enumerate(whole, 1):
        try:
            yield _point(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            form = '{"step": N, "values": {curve: number}}'
            raise InputError(f"{path}: line {number}: expected {form}; fix or remove the line") from None


def _point(content: Any) -> tuple[int, dict[str, float]]:
    step, values = content["step"], content["values"]
    if type(step) is not int or step < 0 or not isinstance(values, dict):
        raise ValueError
    numbers = {name: math.nan if value is None else value for name, value in values.items()}
    if not all(type(value) in (int, float) for value in numbers.values()):
        raise ValueError
    return step, {name: float(value) for name, value in numbers.items()}
