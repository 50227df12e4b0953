"""Running a command: a user's mistake is one line and an exit code, never a traceback."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from utils.errors import InputError, TrainingError
from utils.memory import is_out_of_memory

PACKAGES = ("torch", "numpy", "tqdm", "tensorboard")  # of requirements.txt


def run_tool(
    name: str,
    tool: Callable[[Sequence[str]], int | None],
    arguments: Sequence[str],
    *,
    interrupted: str = "interrupted",
    out_of_memory: str = "",
) -> int:
    """Run a command, return its exit code: its own, 0 for None; 1 for an interrupt or failed training; 2 for a mistake.

    `out_of_memory` says what to do when memory runs out.
    """
    try:
        return tool(arguments) or 0
    except TrainingError as error:
        return _complain(f"{name}: {error}", 1)
    except KeyboardInterrupt:
        return _complain(f"{name}: {interrupted}", 1)
    except InputError as error:
        return _complain(f"{name}: error: {error}", 2)
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        return _complain(
            f"{name}: error: {sys.executable} has no {error.name}; run scripts/train.sh, which sets one up that has, or: "
            f"{sys.executable} -m pip install -r requirements.txt",
            2,
        )
    except (OSError, MemoryError, RuntimeError) as error:
        line = describe_system_error(error)
        if line is None:
            raise
        advice = f"; {out_of_memory}" if out_of_memory and is_out_of_memory(error) else ""
        return _complain(f"{name}: error: {line}{advice}", 2)


def not_a_program(file: str, *, run: str) -> NoReturn:
    """For a file that is imported, never run: say what to run in its place, and exit with code 2."""
    print(
        f"{file} is a part of the program, not a command: run {run}; python main.py --help lists the flags",
        file=sys.stderr,
    )
    sys.exit(2)


def describe_system_error(error: BaseException) -> str | None:
    """Say in one line which allocation or file failed; None if the error is a bug in the program."""
    if is_out_of_memory(error):
        return f"out of memory ({str(error).splitlines()[0] if str(error) else 'no details'})"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and the disk"
    return None


def _complain(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
