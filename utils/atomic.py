"""Files and folders that are either complete or absent: written under a temporary name beside their place, then renamed.

A full disk or a killed process leaves an earlier file of that name as it was. What a killed process leaves is called
`.NAME.RANDOM.tmp`, and remove_leftovers deletes it. A process holds a lock on what it writes, so that nobody else deletes it.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from utils.errors import InputError

NOT_FINITE = "not written, a number in it is not finite; which option is so extreme?"
IDLE_SECONDS = 3600.0  # where nothing can be locked, what nobody has written to for so long is a leftover


def write_file(path: pathlib.Path, write: Callable[[BinaryIO], object]) -> None:
    """Call write(file) on the temporary file. Raises InputError when it cannot be written; an earlier file survives."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_file(path) as (temporary, file):
            write(file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException as error:
        # torch.save reports a failed write as a RuntimeError, with the OSError as its cause or context.
        cause = next((e for e in (error, error.__cause__, error.__context__) if isinstance(e, OSError)), None)
        if cause is None:
            raise
        kept = "the earlier file is unharmed" if path.exists() else "nothing was left behind"
        raise InputError(
            f"{path}: can't be written ({cause.strerror or cause}); {kept}; free some space or check the folder"
        ) from error


def write_text(path: pathlib.Path, text: str) -> None:
    write_file(path, lambda file: file.write(text.encode("utf-8")))


def write_json(path: pathlib.Path, content: Any, *, indent: int | None = None) -> None:
    """Write a JSON file. Raises InputError, before anything is written, for NaN and infinity, which are no JSON."""
    try:
        text = json.dumps(content, indent=indent, allow_nan=False)
    except ValueError:
        raise InputError(f"{path}: {NOT_FINITE}") from None
    write_text(path, text + "\n" * bool(indent))


@contextlib.contextmanager
def whole_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new folder to fill, which becomes `path` when the block ends; nothing of it stays when the block fails."""
    final = pathlib.Path(os.path.realpath(path))  # unlike resolve(), an OSError where links go round in circles
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(final.parent, final.name)
    with (
        tempfile.TemporaryDirectory(dir=final.parent, prefix=f".{final.name}.", suffix=".tmp") as unfinished,
        locked(pathlib.Path(unfinished)),
    ):
        filled = pathlib.Path(unfinished) / "filled"
        filled.mkdir()
        yield filled
        filled.replace(final)


def remove_leftovers(folder: pathlib.Path, name: str = "") -> None:
    """Delete what killed processes left in a folder: temporary files and folders of `name`, or of any name."""
    leftover = re.compile(rf"\.{re.escape(name) or '.+'}\.\w+\.tmp", re.DOTALL)
    with contextlib.suppress(OSError):  # also of a folder that is not there
        for path in [entry for entry in folder.iterdir() if leftover.fullmatch(entry.name)]:
            with contextlib.suppress(OSError), locked(path) as held:
                if held or (held is None and _is_idle(path)):
                    _remove(path)


@contextlib.contextmanager
def locked(path: pathlib.Path) -> Iterator[bool | None]:
    """Lock a file or folder during the block; yields False if another process holds its lock, None where there are no locks.

    Raises OSError for a link: nothing is followed.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _temporary_file(path: pathlib.Path) -> Iterator[tuple[pathlib.Path, BinaryIO]]:
    """A new and locked file beside `path`, which is gone when the block fails."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        with open(temporary, "xb") as file:  # "x": nothing that is there is opened, nor a link followed
            if _lock(file.fileno()) is False or not temporary.exists():
                continue  # somebody took it for a leftover before it was locked
            try:
                yield temporary, file
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            return


def _lock(descriptor: int) -> bool | None:
    """Whether the lock is ours now; None where nothing can be locked, as on some network file systems."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_idle(path: pathlib.Path) -> bool:
    newest = max(entry.lstat().st_mtime for entry in (path, *path.rglob("*")))
    return time.time() - newest > IDLE_SECONDS


def _remove(path: pathlib.Path) -> None:
    mode = path.lstat().st_mode
    if stat.S_ISDIR(mode):
        shutil.rmtree(path)
    elif stat.S_ISREG(mode):
        path.unlink()
