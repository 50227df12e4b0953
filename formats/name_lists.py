"""Text files with a name on each line: split files, and lists of classes.

names = read_names(path, where=f"--classes {path}", of="class")
"""

import pathlib

from formats.regular_files import check_regular
from utils.errors import InputError


def read_names(path: pathlib.Path, *, where: str, of: str) -> list[str]:
    """The lines that are not blank. Raises InputError, which begins with `where`, for what is no text of a kind of names."""
    return [line for line in read_lines(path, where=where, expected=f"one {of} name per line") if line]


def read_lines(path: pathlib.Path, *, where: str, expected: str) -> list[str]:
    """All lines, without the space around them. Raises InputError, which begins with `where`, for what is no text."""
    try:
        check_regular(path)
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{where}: can't be read ({reason}); expected {expected}") from None
    return [line.strip() for line in lines]
