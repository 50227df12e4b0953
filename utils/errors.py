"""The two ways a run can end that are not bugs. main.py prints them as one line, without a traceback."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names the file or flag and says what to do. Exit code 2.

    Names in it come from files: whatever they hold, the message is one line.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class TrainingError(RuntimeError):
    """Training can't go on, for a loss that is not finite, say. Exit code 1."""
