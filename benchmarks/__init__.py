"""What measures speed and memory: `python -m benchmarks.run`. Nothing of the method depends on it."""

from utils.processors import let_threads_sleep

let_threads_sleep()  # as main.py does, and like there before torch is imported
