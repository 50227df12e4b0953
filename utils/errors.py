"""The two ways a run can end that are not bugs. main.py prints them as one line, without a traceback."""

from collections.abc import Sequence


class InputError(ValueError):
    """Invalid input; the message names the file or flag and says what to do. Exit code 2.

    The message is always one line, even if names from files contain line breaks. `details` are other mistakes in the same input,
    a line each, which are printed before it.
    """

    def __init__(self, message: str, *, details: Sequence[str] = ()) -> None:
        super().__init__(" ".join(message.splitlines()))
        self.details = tuple(" ".join(line.splitlines()) for line in details)


class TrainingError(RuntimeError):
    """Training can't continue, for example after a loss that is not finite. Exit code 1."""
