"""What measures speed and memory: `python -m benchmarks.run`. Nothing of the method depends on it."""
