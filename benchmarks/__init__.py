"""What measures speed and memory: `python -m benchmarks.run`. Nothing of the method depends on it."""

from utils.processors import settle_in

settle_in()  # as main.py does, and like there before torch is imported
