"""The two ways a run can end that are not bugs. main.py prints them as one line, without a traceback."""

from collections.abc import Sequence

from utils.printable import one_line

MOST_LISTED = 10  # mistakes that one error lists


class InputError(ValueError):
    """Invalid input; the message names the file or flag and says what to do. Exit code 2.

    The message is always one line of printable text, whatever the names from files in it contain. `details` are other mistakes
    in the same input, a line each, which are printed before it; `hint` is a line after it: a way to go on in spite of them.
    """

    def __init__(self, message: str, *, details: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(one_line(message))
        self.details = tuple(one_line(line) for line in details)
        self.hint = one_line(hint)


def first_of(mistakes: Sequence[str], *, rest: str = "") -> tuple[str, list[str]]:
    """The message and the details of an error about several mistakes: the first; others, and a count if they are too many."""
    first, *others = mistakes
    unlisted = len(others) - (MOST_LISTED - 1)
    details = others[: MOST_LISTED - 1] + ([f"and {unlisted:,} more{rest}"] if unlisted > 0 else [])
    return f"{first} (and {len(others):,} more, above)" if others else first, details


class TrainingError(RuntimeError):
    """Training can't continue, for example after a loss that is not finite. Exit code 1. The message is one line, too."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))
