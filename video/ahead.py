"""A generator that a thread runs ahead of its consumer, by a bounded number of items.

for frame in ahead(reader, items=32): ...
"""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")

_LOOK = 0.1  # seconds between looks whether the consumer has gone


def ahead(source: Iterable[Item], *, items: int) -> Generator[Item, None, None]:
    """Yield what `source` yields, while a thread takes up to `items` of it before they are asked for.

    What `source` raises is raised here, after the items before it. When the consumer stops early, so does the thread.
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(items)
    gone = threading.Event()

    def put(kind: str, value: Any = None) -> None:
        while not gone.is_set():
            try:
                return waiting.put((kind, value), timeout=_LOOK)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in source:
                put("item", item)
                if gone.is_set():
                    return
            put("end")
        except BaseException as error:
            put("error", error)
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        while (taken := waiting.get())[0] == "item":
            yield taken[1]
        if taken[0] == "error":
            raise taken[1]
    finally:
        gone.set()
        thread.join()
