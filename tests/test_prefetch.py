"""Items prepared ahead come in order, no earlier than wanted, and with their errors."""

import threading
import time

import pytest

from utils.errors import InputError
from utils.prefetch import prefetch


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_order(threads):
    def slow_when_even(i):
        time.sleep(0.002 * (i % 2 == 0))
        return i * i

    assert list(prefetch(slow_when_even, range(20), threads=threads)) == [i * i for i in range(20)]
    assert list(prefetch(slow_when_even, [], threads=threads)) == []


def test_it_is_ahead_but_not_far():
    started = []
    items = prefetch(started.append, iter(range(100)), threads=2)
    next(items)
    deadline = time.monotonic() + 5
    while len(started) < 4 and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    assert sorted(started) == [0, 1, 2, 3]  # the one taken, and threads + 1
    items.close()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_is_raised_in_its_turn(threads):
    def fails_at_three(i):
        if i == 3:
            raise KeyError("three")
        return i

    items = prefetch(fails_at_three, range(10), threads=threads)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="three"):
        next(items)


def test_more_threads_than_the_system_starts(monkeypatch):
    def refuses(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuses)
    with pytest.raises(InputError, match=r"--num_workers 9: .* give fewer"):
        next(prefetch(abs, [1, 2], threads=9))


def test_no_thread_is_left_when_the_caller_stops_early():
    items = prefetch(lambda i: i, range(1000), threads=2)
    next(items)
    items.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]
