"""Items prepared by threads ahead of their use, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from utils.errors import InputError

Key = TypeVar("Key")
Item = TypeVar("Item")


def prefetch(prepare: Callable[[Key], Item], keys: Iterable[Key], *, threads: int) -> Iterator[Item]:
    """Yield prepare(key) for every key, in order, while `threads` threads work ahead of the caller; 0: no work ahead.

    What `prepare` raises is raised here, when its turn comes.
    """
    if threads == 0:
        yield from map(prepare, keys)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="prefetch") as pool:
        remaining = iter(keys)
        waiting: deque[Future[Item]] = deque()
        try:
            waiting.extend(pool.submit(prepare, key) for key in islice(remaining, threads + 1))
            while waiting:
                item = waiting.popleft().result()
                waiting.extend(pool.submit(prepare, key) for key in islice(remaining, 1))
                yield item
        except RuntimeError as error:
            if "can't start new thread" not in str(error):
                raise
            raise InputError(
                f"--num_workers {threads}: the system cannot start that many threads; give fewer"
            ) from None
        finally:  # runs also when the caller stops early
            for future in waiting:
                future.cancel()
