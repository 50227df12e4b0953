"""Running a tool from the command line: a user's mistake is one line and exit code 2."""

import sys
from collections.abc import Callable, Sequence

from utils.errors import InputError
from utils.memory import is_out_of_memory


def run_tool(name: str, tool: Callable[[Sequence[str]], None], arguments: Sequence[str]) -> int:
    """Exit code: 0 done, 1 interrupted, 2 a mistake in what was given."""
    try:
        tool(arguments)
    except InputError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on", file=sys.stderr)
        return 1
    except (OSError, MemoryError, RuntimeError) as error:
        line = describe_system_error(error)
        if line is None:
            raise
        print(f"{name}: error: {line}", file=sys.stderr)
        return 2
    return 0


def describe_system_error(error: BaseException) -> str | None:
    """One line for a failed allocation or file; None for what is a defect of the program."""
    if is_out_of_memory(error):
        return f"out of memory ({str(error).splitlines()[0] if str(error) else 'no details'})"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and the disk"
    return None
