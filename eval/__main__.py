"""Measures of result files and of runs, each a command: `python -m eval COMMAND ...`; --help after its name lists its flags."""

import sys

from command_line.early import stop_quietly

if __name__ == "__main__":
    stop_quietly("eval")  # loading the rest takes a moment

from collections.abc import Callable, Mapping, Sequence

from command_line.console import run_tool
from command_line.suggestions import closest, did_you_mean, shortened
from utils.errors import InputError

# Each command imports what it needs, so that --help and a mistyped command don't wait for pandas and scipy.


def _diagnose(arguments: Sequence[str]) -> None:
    from eval.commands import print_diagnosis

    print_diagnosis(arguments)


def _compare(arguments: Sequence[str]) -> None:
    from eval.commands import print_comparison

    print_comparison(arguments)


def _tables(arguments: Sequence[str]) -> None:
    from eval.run_tables import print_table

    print_table(arguments)


TOOLS: Mapping[str, Callable[[Sequence[str]], None]] = {"diagnose": _diagnose, "compare": _compare, "tables": _tables}
USAGE = """python -m eval COMMAND ...; --help after a command lists its flags

  detection   detection mAP of a result file
  diagnose    what kinds of errors a result file has, and what each is worth
  compare     the difference of two result files, with its interval over videos
  tables      mAP of runs, seeds of one method together, as markdown, LaTeX, CSV or text"""


def main(arguments: Sequence[str]) -> int:
    """Return the exit code: 0 done, 2 invalid input."""
    command, *rest = arguments or ["--help"]
    if command == "detection":
        from eval.detection import main as detection

        return detection(rest)
    if command in TOOLS:
        return run_tool(f"eval {command}", TOOLS[command], rest)
    return run_tool("eval", _print_usage, [command])


def _print_usage(arguments: Sequence[str]) -> None:
    if arguments[0] not in ("--help", "-h"):
        meant = did_you_mean(closest(arguments[0], ["detection", *TOOLS]))
        raise InputError(f"no command {shortened(arguments[0])}{meant}; --help lists them")
    print(USAGE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
