"""The two ways a run can end that are not bugs. main.py prints them as one line, without a traceback."""


class InputError(ValueError):
    """Something the user gave is wrong; the message names the file or flag and says what to do. Exit code 2."""


class TrainingError(RuntimeError):
    """Training can't go on, for a loss that is not finite, say. Exit code 1."""
