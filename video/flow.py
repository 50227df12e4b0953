"""Optical flow between frames, TV-L1 or DIS, by as many threads as there are cores.

    with FlowEstimator("tvl1", bound=20, workers=2) as flow:
        for frame, motion in flow.pairs(frames): ...        # [H,W,3] bytes and [H,W,2] in [-1,1]
    seconds_per_pair("tvl1", 256, 340, workers=2)           # how long a pair takes here

The motion of a frame is that to the next one, in pixels, clipped to +-bound and divided by it; the last frame has that of the
frame before. C. Zach et al., "A Duality Based Approach for Realtime TV-L1 Optical Flow", DAGM 2007, which I3D learned from, is
exact and slow; T. Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016, is a hundred times faster. Both
are OpenCV's, with its numbers.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from utils.errors import InputError

Frame = NDArray[np.uint8]  # [H,W,3]
Gray = NDArray[np.uint8]  # [H,W]
Flow = NDArray[np.float32]  # [H,W,2], x and y
TVL1 = "DualTVL1OpticalFlow_create"  # which OpenCV's own types do not know
PAIRS_AHEAD = 2  # for each worker
SAMPLE = (64, 85)  # pixels of the pair that is measured: a quarter of what I3D sees, a sixteenth of the work


class FlowEstimator:
    """Flow by `workers` threads; the block's end ends them."""

    def __init__(self, method: str, *, bound: float, workers: int) -> None:
        """`method` is "tvl1" or "dis". Raises InputError where OpenCV lacks it."""
        _check(method)
        self.method, self.bound, self.workers = method, bound, max(1, workers)
        self._own = threading.local()  # each thread's estimator, which keeps buffers
        self._pool = ThreadPoolExecutor(self.workers, thread_name_prefix="flow")
        self._threads_before = cv2.getNumThreads()

    def __enter__(self) -> "FlowEstimator":
        cv2.setNumThreads(1)  # one for each pair: pairs are many
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(self._threads_before)

    def pairs(self, frames: Iterable[Frame]) -> Iterator[tuple[Frame, Flow]]:
        """Yield each frame with its motion, in order, while the threads work ahead."""
        waiting: deque[tuple[Frame, Future[Flow]]] = deque()
        before: tuple[Frame, Gray] | None = None
        motion: Flow | None = None
        try:
            for frame in frames:
                gray: Gray = np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)
                if before is not None:
                    waiting.append((before[0], self._pool.submit(self._flow, before[1], gray)))
                before = frame, gray
                if len(waiting) > PAIRS_AHEAD * self.workers:
                    shown, future = waiting.popleft()
                    motion = future.result()
                    yield shown, motion
            while waiting:
                shown, future = waiting.popleft()
                motion = future.result()
                yield shown, motion
            if before is not None:
                still = np.zeros((*before[1].shape, 2), np.float32)
                yield before[0], still if motion is None else motion
        finally:
            for _, future in waiting:
                future.cancel()

    def _flow(self, first: Gray, second: Gray) -> Flow:
        # One for each size: OpenCV's uses fewer scales for ever once it has seen a small picture.
        if getattr(self._own, "shape", None) != first.shape:
            self._own.estimator, self._own.shape = _estimator(self.method), first.shape
        motion = self._own.estimator.calc(first, second, None)
        return np.asarray(np.clip(motion, -self.bound, self.bound) / np.float32(self.bound), np.float32)


def seconds_per_pair(method: str, height: int, width: int, workers: int) -> float:
    """Seconds that a pair of frames of this size takes when all workers are busy, by a smaller pair, measured now.

    TV-L1 stops when it no longer improves: pairs of real clips took 0.8 to 1.8 times as long, with DIS 1.1 to 1.4 times.
    """
    texture = np.random.default_rng(0).integers(0, 256, (SAMPLE[0] // 4, SAMPLE[1] // 4 + 2), np.uint8)
    large = cv2.resize(texture, (SAMPLE[1] + 8, SAMPLE[0]), interpolation=cv2.INTER_CUBIC)
    first, second = (np.ascontiguousarray(large[:, shift : shift + SAMPLE[1]]) for shift in (0, 2))
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        estimator = _estimator(method)
        estimator.calc(first, second, None)
        start = time.perf_counter()
        estimator.calc(first, second, None)
        seconds = time.perf_counter() - start
    finally:
        cv2.setNumThreads(threads)
    return seconds * height * width / (SAMPLE[0] * SAMPLE[1]) / workers


def _check(method: str) -> None:
    if method == "tvl1" and not hasattr(getattr(cv2, "optflow", None), TVL1):
        package = "opencv-contrib-python-headless"
        raise InputError(
            f"--flow tvl1: this OpenCV lacks TV-L1; {package} has it: install that alone, or give --flow dis"
        )


def _estimator(method: str) -> Any:
    if method == "tvl1":
        return getattr(cv2.optflow, TVL1)()
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
