"""The two ways a run can end that are not bugs. main.py prints them as one line, without a traceback."""

from utils.printable import one_line


class InputError(ValueError):
    """Invalid input; the message names the file or flag and says what to do. Exit code 2.

    The message is always one line of printable text, whatever the names from files in it contain.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class TrainingError(RuntimeError):
    """Training can't continue, for example after a loss that is not finite. Exit code 1. The message is one line, too."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))
