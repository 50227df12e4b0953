"""What measures speed and memory: `python -m benchmarks.run`. Nothing of the method depends on it."""

import os

# As main.py does, and before torch allocates anything: huge pages, for the plain formulation as well as for ours.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
