"""What is on the disk, what main.py says of it, and a file that must never be unpickled."""

import os
import pathlib


def contents(folder: pathlib.Path) -> dict[str, bytes | None]:
    """Everything under a folder, by path within it: bytes of files, None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


def complaint(code: int, err: str) -> str:
    """The one line that main.py answers a mistake with. Others of the kind are listed before it; a way on may come after it."""
    assert code == 2, err
    *others, line = [line for line in err.splitlines() if not line.startswith("  -> ")]
    assert all(other.startswith("    ") for other in others) and bool(others) == line.endswith(", above)")
    assert line.startswith("main.py: error: ")
    return line


class Exploit:
    """Unpickling this makes a folder at `marker`."""

    def __init__(self, marker: pathlib.Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)
