"""Locks of folders: one process at a time writes into an experiment's folder, or into its inference folder.

with FolderLock(folder): ...            # raises InUse, which names host, process and time, if another process has it

The lock is the operating system's (flock) on `.lock` in the folder. It ends with its process, however that ends, and moves with
the folder when that is renamed. What is written in the file is for people: who holds it. Where the file system has no such
locks, `.lock.owner` stands for one, until its process is known to have ended.
"""

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import shlex
import socket
import stat
import sys
import time
from dataclasses import asdict, dataclass

from utils.errors import InputError
from utils.printable import one_line

FILE, OWNER = ".lock", ".lock.owner"
UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
LONGEST_COMMAND = 100
ATTEMPTS = 100  # to lock a file that others keep removing
WAIT, LOOKS = 0.02, 25  # seconds, and how often, until a new holder has written who it is


class InUse(InputError):
    """Another process has the lock."""


class FolderLock:
    """The lock of a folder, which is made if it is missing. What was made and is still empty at the end is removed again."""

    def __init__(self, folder: pathlib.Path, *, new: bool = False, instead: str = "another --exp_name") -> None:
        """`new`: raise FileExistsError if the folder exists. `instead` is what to give if it is in use."""
        self.folder, self.new, self.instead = folder, new, instead
        self._made: list[pathlib.Path] = []
        self._descriptor: int | None = None
        self._place: os.stat_result | None = None  # of the folder, which tells it from another of its name
        self._owns = False  # OWNER, where the file system has no locks

    def __enter__(self) -> "FolderLock":
        """Raises InUse, or OSError when the folder can't be made or written."""
        try:
            self._make(new=self.new)
            for _ in range(ATTEMPTS):
                if self._take():
                    return self
                self._make()
            raise InputError(f"{self.folder}: no lock can be made there; give {self.instead}, or another --output_dir")
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self._owns:
            (self.folder / OWNER).unlink(missing_ok=True)
        if self._descriptor is not None:
            if self._is_file(self._descriptor):
                (self.folder / FILE).unlink(missing_ok=True)
            os.close(self._descriptor)
        self._owns, self._descriptor = False, None
        for folder in reversed(self._made):
            with contextlib.suppress(OSError):  # not empty: the work has left something
                folder.rmdir()

    def keep(self) -> None:
        """Leave the folder at the end, even if it is empty."""
        self._made = []

    def renew(self, kept: pathlib.Path) -> None:
        """Rename the folder to `kept` and lock a new one in its place. Raises InUse, or OSError when it can't be renamed."""
        earlier = FolderLock(kept)
        self.folder.rename(kept)
        earlier._descriptor, earlier._owns = self._descriptor, self._owns  # both moved with the folder
        self._descriptor, self._owns, self._made = None, False, []
        try:
            self.__enter__()
        finally:
            earlier.__exit__()

    def follow(self) -> None:
        """Let `folder` be where the locked folder is now: somebody may have renamed it. One that was removed is made again.

        Raises InUse when another process has it meanwhile, or when another folder stands in its place.
        """
        if self._descriptor is None or self._is_file(self._descriptor):
            return
        with contextlib.suppress(OSError):  # a removed file has no path, and some systems do not say
            path = pathlib.Path(os.readlink(f"/proc/self/fd/{self._descriptor}"))
            if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(self._descriptor)):
                self.folder = path.parent
                return
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(self.folder / FILE, follow_symlinks=False).st_mode):
                return  # whatever was put there, nobody can lock it
        with contextlib.suppress(FileNotFoundError):
            if self._place and not os.path.samestat(os.stat(self.folder), self._place):
                raise InUse(f"{self.folder}: is another folder now; the one that this process wrote into was removed")
        os.close(self._descriptor)
        self._descriptor, self._owns, self.new = None, False, False
        self.__enter__()
        self.keep()

    def _make(self, *, new: bool = False) -> None:
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        if new and not missing:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.folder))
        for folder in reversed(missing):
            try:
                folder.mkdir()
                self._made.append(folder)
            except FileExistsError:  # another process has just made it
                if not folder.is_dir() or (new and folder == self.folder):
                    raise

    def _take(self) -> bool:
        """Lock the file. False: it was removed meanwhile, since its holder has ended; try again. Raises InUse."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(self.folder / FILE, flags, 0o666)
        except FileNotFoundError:  # the folder was removed
            return False
        taken = False
        try:
            taken = self._lock(descriptor)
        finally:
            if not taken:
                os.close(descriptor)
        if taken:
            self._descriptor, self._place = descriptor, os.stat(self.folder)
        return taken

    def _lock(self, descriptor: int) -> bool:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InputError(f"{self.folder / FILE}: is not a plain file; remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise self._in_use(_read_holder(self.folder / FILE)) from None
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self._own()
        if not self._is_file(descriptor):
            return False
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the text
            os.truncate(descriptor, 0)
            os.write(descriptor, _this_process().as_json())
        return True

    def _is_file(self, descriptor: int) -> bool:
        """Whether this is still the folder's lock file, neither removed nor replaced."""
        try:
            there = os.stat(self.folder / FILE, follow_symlinks=False)
        except OSError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def _own(self) -> None:
        """Make OWNER, which only one process can; first remove one whose process has ended. Raises InUse."""
        path = self.folder / OWNER
        while not self._owns:
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            except FileExistsError:
                holder = _read_holder(path)
                if not (holder and holder.has_ended):
                    raise self._in_use(holder, f", or remove {path} if nothing uses the folder") from None
                path.unlink(missing_ok=True)
            else:
                with open(descriptor, "wb") as file:
                    file.write(_this_process().as_json())
                self._owns = True

    def _in_use(self, holder: "Holder | None", remedy: str = "") -> InUse:
        by = str(holder) if holder else "by another process"
        return InUse(f"{self.folder}: in use {by}; wait until it ends or stop it, or give {self.instead}{remedy}")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """The process that has a lock."""

    host: str
    pid: int
    started: str | None  # by the system's count, which tells it from a later process of the same number
    since: str  # when it took the lock
    command: str

    def __str__(self) -> str:
        return f"by process {self.pid} on {self.host} since {self.since} ({one_line(self.command, LONGEST_COMMAND)})"

    def as_json(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended: nothing is known of processes on other hosts."""
        if self.host != socket.gethostname():
            return False
        return not _exists(self.pid) or (self.started is not None and _start_of(self.pid) != self.started)


def _this_process() -> Holder:
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        started=_start_of(os.getpid()),
        since=time.strftime("%Y-%m-%d %H:%M:%S"),
        command=shlex.join(sys.argv),
    )


def _exists(pid: int) -> bool:
    """Whether this host has a process of that number."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _start_of(pid: int) -> str | None:
    """When a process of this host started, in clock ticks since it booted; None if there is none, or nobody says."""
    try:
        line = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return line.rpartition(")")[2].split()[19]  # field 22; the name before it, in brackets, may hold anything


def _read_holder(path: pathlib.Path) -> Holder | None:
    """The holder that a lock file names; None if it says nothing, even after the moment that a new holder takes to write."""
    for look in range(LOOKS):
        try:
            content = json.loads(_read_start(path))
            holder = Holder(**{name: content[name] for name in Holder.__dataclass_fields__})
            if isinstance(holder.pid, int) and holder.pid > 0:
                return holder
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            pass
        time.sleep(WAIT if look + 1 < LOOKS else 0)
    return None


def _read_start(path: pathlib.Path) -> bytes:
    """The first bytes of a file, more than a holder has, without waiting where it is a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return os.read(descriptor, 100_000)
    finally:
        os.close(descriptor)
