"""A set that is opened and read while the program is still loading torch, which takes as long.

    inspected = open_early(options.data, locks)         # None: opened in its turn, which also says what is wrong with it

This imports no torch, and nothing that does.
"""

import contextlib
import pathlib
from concurrent.futures import ThreadPoolExecutor

from formats.inspection import InspectedSet, inspect_set
from options import DataOptions
from utils.errors import InputError
from utils.memory import free_bytes
from utils.processors import usable_cpus

EARLY_SHARE = 0.25  # of the free memory: larger sets wait until it is known where they are to be kept
MOST_THREADS = 8


def open_early(options: DataOptions, stack: contextlib.ExitStack) -> InspectedSet | None:
    """Open the set of a training run, and let threads begin to read what --cache will keep in memory, until the stack ends.

    Nothing is raised or written.
    """
    path = pathlib.Path(options.data_path)
    try:
        if not options.data_path or not path.is_dir():
            return None
        inspected = inspect_set(path, options)
    except (InputError, OSError, MemoryError):
        return None
    files = [files for found in inspected.files.values() for files in found.values()]
    if options.cache != "mmap" and sum(f.nbytes for f in files) <= EARLY_SHARE * (free_bytes(None) or 0):
        pool = ThreadPoolExecutor(max(1, min(usable_cpus() - 1, MOST_THREADS)), thread_name_prefix="early")
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        with contextlib.suppress(RuntimeError):  # no thread can be started: they are read later
            for each in files:
                each.load_early(pool)
    return inspected
