"""The curves of a run as lines of JSON, one for each moment that wrote some: {"step": 10, "values": {"loss/total": 1.5}}.

    append_point(file, {"loss/total": 1.5}, step=10)
    points = read_points(path)                      # [(10, "loss/total", 1.5)]
    damaged_lines(path)                             # [7]: numbers of lines that hold no point, which are left out
    drop_points(path, first_step=11)                # of a run that goes on after step 10

A value that is not finite is null. A run that was killed may leave half a last line, which counts as not written.
"""

import json
import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from formats.regular_files import check_regular
from utils.atomic import remove_leftovers, write_file
from utils.errors import InputError

CURVES = "curves.jsonl"
DAMAGED = f"{CURVES}.damaged"  # what a file with damaged lines is kept as when a run goes on
LATEST = 2**63 - 1  # step
Point = tuple[int, str, float]
Line = tuple[int, dict[str, float]]


def append_point(file: BinaryIO, values: Mapping[str, float], *, step: int) -> None:
    """Write one line to a file that is open for appending. Raises OSError."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    file.write(json.dumps({"step": step, "values": finite}, allow_nan=False).encode() + b"\n")
    file.flush()


def read_points(path: pathlib.Path) -> list[Point]:
    """(step, curve, value) of every point, in the order written; the later of two of one step and curve. Missing file: none.

    Damaged lines are left out. Raises InputError for a file that can't be read.
    """
    points = {(step, name): value for step, values in _whole_lines(path) for name, value in values.items()}
    return [(step, name, value) for (step, name), value in points.items()]


def damaged_lines(path: pathlib.Path) -> list[int]:
    """Numbers, from 1, of the lines that are not as `append_point` writes them. Raises InputError as `read_points`."""
    return [number for number, content in enumerate(_lines(path), 1) if content is None]


def set_aside(path: pathlib.Path) -> pathlib.Path:
    """Keep a copy of a damaged file beside it, under the name returned. Raises InputError."""
    copy, data = path.with_name(DAMAGED), path.read_bytes()
    remove_leftovers(path.parent, copy.name)
    write_file(copy, lambda file: file.write(data))
    return copy


def drop_points(path: pathlib.Path, *, first_step: int) -> None:
    """Keep the points before `first_step` alone, if the file is there, and no damaged line. Raises InputError."""
    if not path.exists():
        return
    kept = [(step, values) for step, values in _whole_lines(path) if step < first_step]

    def write(file: BinaryIO) -> None:
        for step, values in kept:
            append_point(file, values, step=step)

    write_file(path, write)


def _whole_lines(path: pathlib.Path) -> Iterator[Line]:
    return (line for line in _lines(path) if line is not None)


def _lines(path: pathlib.Path) -> Iterator[Line | None]:
    """(step, {curve: value}) of every line, None for a damaged one."""
    try:
        check_regular(path)
        data = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from None
    *whole, _ = data.split(b"\n")  # after the last line break: nothing, or half a line
    for line in whole:
        try:
            yield _point(json.loads(line))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            yield None


def _point(content: Any) -> Line:
    step, values = content["step"], content["values"]
    if type(step) is not int or not 0 <= step <= LATEST or not isinstance(values, dict):
        raise ValueError
    numbers = {name: math.nan if value is None else value for name, value in values.items()}
    if not all(type(value) in (int, float) for value in numbers.values()):
        raise ValueError
    return step, {name: float(value) for name, value in numbers.items()}
