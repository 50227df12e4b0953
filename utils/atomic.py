"""Files and folders that are either complete or absent: written under a temporary name beside their place, then renamed.

A full disk or a killed process leaves an earlier file of that name as it was.
"""

import contextlib
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from utils.errors import InputError


def write_file(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Call write(file) on the temporary file. Raises InputError when it cannot be written; an earlier file survives."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # torch.save reports a failed write as a RuntimeError, with the OSError as its cause or context.
        cause = next((e for e in (error, error.__cause__, error.__context__) if isinstance(e, OSError)), None)
        if cause is None:
            raise
        kept = "the earlier file is unharmed" if path.exists() else "nothing was left behind"
        raise InputError(
            f"{path}: can't be written ({cause.strerror}); {kept}; free some space or check the folder"
        ) from error


def write_text(path: pathlib.Path, text: str) -> None:
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: pathlib.Path, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file. Raises InputError, before anything is written, for NaN and infinity, which are no JSON."""
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError:
        raise InputError(f"{path}: not written, a number in it is not finite; which option is so extreme?") from None
    write_text(path, text + "\n" * bool(indent))


@contextlib.contextmanager
def whole_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder to fill, which becomes `path` when the block ends; nothing of it stays when the block fails."""
    final = path.resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{final.name}.", suffix=".tmp") as unfinished:
        filled = pathlib.Path(unfinished) / "filled"
        filled.mkdir()
        yield filled
        filled.replace(final)
