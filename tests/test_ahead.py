"""A generator that a thread runs ahead: the same items, few of them early, errors in their place, no thread left."""

import itertools
import threading
import time

import pytest

from video.ahead import ahead


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize("items", [1, 3, 100])
def test_the_items_come_in_order(items):
    assert list(ahead(range(50), items=items)) == list(range(50))
    assert list(ahead([], items=items)) == []
    assert not threads()


def test_an_error_comes_after_the_items_before_it():
    def failing():
        yield 1
        yield 2
        raise OSError("gone")

    items = ahead(failing(), items=8)
    assert (next(items), next(items)) == (1, 2)
    with pytest.raises(OSError, match="gone"):
        next(items)
    assert not threads()


def test_work_is_ahead_by_a_bounded_number():
    taken = itertools.count()
    source = (next(taken) for _ in range(10_000))
    items = ahead(source, items=5)
    next(items)
    time.sleep(0.3)
    assert 2 < next(taken) <= 8  # one consumed, five waiting, one in hand
    items.close()


def test_a_consumer_that_stops_ends_the_thread_and_closes_the_source():
    closed = threading.Event()

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    items = ahead(endless(), items=2)
    assert next(items) == 0
    items.close()
    assert closed.is_set() and not threads()


def test_it_does_not_begin_before_it_is_asked():
    started = threading.Event()

    def source():
        started.set()
        yield 1

    items = ahead(source(), items=2)
    time.sleep(0.05)
    assert not started.is_set()
    assert list(items) == [1]
