"""Running a command: a user's mistake is one line and an exit code, never a traceback; so is a signal to stop."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from command_line.output import guarded_output
from command_line.signals import Stopper, stop_signals
from utils.errors import InputError, TrainingError
from utils.memory import is_out_of_memory
from utils.printable import one_line

PACKAGES = ("torch", "numpy", "tqdm", "tensorboard", "yaml")  # modules of requirements.txt
NOT_DETERMINISTIC = " does not have a deterministic implementation"  # in torch's message
OF_VIDEO = ("av", "cv2")  # modules of requirements-video.txt


def run_tool(
    name: str,
    tool: Callable[[Sequence[str]], int | None],
    arguments: Sequence[str],
    *,
    interrupted: str = "interrupted",
    out_of_memory: str = "",
) -> int:
    """Run a command, return its exit code: its own, 0 for None; 1 for an interrupt or failed training; 2 for a mistake.

    `out_of_memory` says what to do when memory runs out. Output that fails changes nothing: the code is that of the work.
    """
    stopper = Stopper(f"{name}: {interrupted}")
    with guarded_output(), stop_signals(stopper):
        try:
            _check_arguments(arguments)
            return tool(arguments) or 0
        except TrainingError as error:
            return _complain(f"{name}: {error}", 1)
        except KeyboardInterrupt:
            return _complain(stopper.line or f"{name}: {interrupted}", 1)
        except Exception as error:
            if stopper.line:  # whatever the interrupt has turned into
                return _complain(stopper.line, 1)
            line = describe_error(error)
            if line is None:
                raise
            advice = f"; {out_of_memory}" if out_of_memory and is_out_of_memory(error) else ""
            return _complain(f"{name}: error: {line}{advice}", 2, of=error)


def describe_error(error: Exception) -> str | None:
    """Say in one line what the user did wrong, or which package, allocation or file failed; None if the error is a bug."""
    if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:
        install = f"{sys.executable} -m pip install -r requirements.txt"
        return f"{sys.executable} has no {error.name}; run scripts/train.sh, which sets one up that has, or: {install}"
    if isinstance(error, ModuleNotFoundError) and error.name in OF_VIDEO:
        install = f"{sys.executable} -m pip install -r requirements-video.txt"
        return f"{sys.executable} has no {error.name}; run scripts/extract.sh or localize.sh, which set it up, or: {install}"
    return str(error) if isinstance(error, InputError) else describe_system_error(error)


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
        return one_line(f"{error.filename}: {error.strerror}; check the path and the disk")
    if isinstance(error, RuntimeError) and NOT_DETERMINISTIC in str(error):
        operation = one_line(str(error).partition(NOT_DETERMINISTIC)[0], 80)
        return (
            f"--deterministic: this torch has no deterministic form of {operation} on this device; leave the flag out"
        )
    return None


def _check_arguments(arguments: Sequence[str]) -> None:
    """Raise InputError for "--flag=--", which argparse takes for the end of the flags and then fails on."""
    for argument in arguments:
        if argument.startswith("--") and argument.endswith("=--"):
            raise InputError(f"{argument}: '--' can't be a value; give another one")


def _complain(text: str, code: int, *, of: Exception | None = None) -> int:
    """Print the line between the details and the hint of an InputError, each of a length that people read."""
    details, hint = (of.details, of.hint) if isinstance(of, InputError) else ((), "")
    for line in (*(f"    {detail}" for detail in details), *text.split("\n"), *([f"  -> {hint}"] if hint else [])):
        print(one_line(line), file=sys.stderr)
    return code
