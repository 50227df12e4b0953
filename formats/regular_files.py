"""The check that what lies in the place of an input file is a file: reading a pipe waits for ever, a device never ends.

check_regular(path)         # before the file is opened
sha256_of(path)             # which tells a file from others of its name
"""

import hashlib
import os
import pathlib
import stat

from formats.problems import DataError, Kind, Problem

_OTHERS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_regular(path: pathlib.Path) -> None:
    """Raise DataError when the path leads to something other than a file, OSError when there is nothing or no access."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        what = f"{_OTHERS.get(stat.S_IFMT(mode), 'something else')}, not a file"
        raise DataError(
            Problem(kind=Kind.UNREADABLE, where=str(path), what=what, fix="put the file there, or fix the path")
        )


def sha256_of(path: pathlib.Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
