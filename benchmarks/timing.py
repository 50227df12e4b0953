"""Median times, the machine's own limits, and peak memory.

    measure(work, device, Budget())              # the Timing of work()
    measure_parts([forward, backward], ...)      # each of them, run one after the other
    limits = measure_limits(device)              # float32 operations per second, bytes moved per second
    limits.floor(flops=1e9, moved=4e6)           # the fewest seconds that the machine needs for these
    peak_memory(work, device)                    # bytes

On CUDA every time includes waiting for the device.
"""

import gc
import pathlib
import re
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from layers.products import by_convolution

KIBIBYTE = 1024  # the kernel's unit for resident memory on Linux
FLOAT_BYTES = 4
MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}  # rows of a square product that is limited by arithmetic
COPY_BYTES = {"cpu": 1 << 28, "cuda": 1 << 30}  # far more than any cache holds
LIMIT_RUNS = 8
QUICK_MATRIX_SIZE = 128
QUICK_COPY_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How often to repeat: min_runs times, then until `seconds` have passed or max_runs are done."""

    min_runs: int = 3
    max_runs: int = 50
    seconds: float = 2.0
    warm_up: int = 1


@dataclass(frozen=True, kw_only=True)
class Timing:
    seconds: float  # median
    runs: int


@dataclass(frozen=True, kw_only=True)
class Limits:
    flops: float  # per second, in a large float32 matrix product under the current precision, by the faster library
    bandwidth: float  # bytes read and written per second in a large copy

    def floor(self, *, flops: float = 0.0, moved: float = 0.0) -> float:
        """Seconds for this many floating-point operations and then this many bytes."""
        return flops / self.flops + moved / self.bandwidth


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(work: Callable[[], object], device: torch.device, budget: Budget) -> Timing:
    return measure_parts([work], device, budget)[0]


def measure_parts(parts: Sequence[Callable[[], object]], device: torch.device, budget: Budget) -> list[Timing]:
    """The median time of each part; the parts run in order, again and again."""
    for _ in range(budget.warm_up):
        for part in parts:
            part()
    seconds: list[list[float]] = [[] for _ in parts]
    started = time.perf_counter()
    runs = 0
    while runs < budget.min_runs or (runs < budget.max_runs and time.perf_counter() - started < budget.seconds):
        for part, times in zip(parts, seconds, strict=True):
            synchronize(device)
            start = time.perf_counter()
            part()
            synchronize(device)
            times.append(time.perf_counter() - start)
        runs += 1
    return [Timing(seconds=statistics.median(times), runs=runs) for times in seconds]


def measure_limits(device: torch.device, *, quick: bool = False) -> Limits:
    """The machine's limits, each the best of several runs: what it can do, not what it does on average."""
    size = QUICK_MATRIX_SIZE if quick else MATRIX_SIZE[device.type]
    left, right, product = (torch.rand(size, size, device=device) for _ in range(3))
    works: list[Callable[[], object]] = [lambda: torch.mm(left, right, out=product)]
    if device.type == "cpu" and torch.backends.mkldnn.is_available():
        works.append(lambda: by_convolution(left, right))
    flops = 2 * size**3 / min(_fastest(work, device) for work in works)
    count = (QUICK_COPY_BYTES if quick else COPY_BYTES[device.type]) // FLOAT_BYTES
    source, target = (torch.ones(count, device=device) for _ in range(2))
    bandwidth = 2 * FLOAT_BYTES * count / _fastest(lambda: target.copy_(source), device)
    return Limits(flops=flops, bandwidth=bandwidth)


def peak_memory(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes held while work() runs: on CUDA by torch's tensors, on the CPU by the whole process.

    Where the kernel can't reset the process's peak, the CPU's figure is the peak since the start.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device)
    reset = _reset_peak()
    work()
    return peak_resident() if reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIBIBYTE


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    work()
    times = [measure(work, device, Budget(min_runs=1, max_runs=1, warm_up=0)) for _ in range(LIMIT_RUNS)]
    return min(timing.seconds for timing in times)


def _reset_peak() -> bool:
    """Whether the kernel could reset the peak: getrusage never lowers it, so a second measurement would show the first."""
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak_resident() -> int:
    """The most bytes that the process held, since its start or since the peak was reset."""
    line = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    assert line
    return int(line[1]) * KIBIBYTE
