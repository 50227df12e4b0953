"""--deterministic: torch's deterministic algorithms.

use_deterministic(True, device)             # before anything is computed there; raises InputError where it is too late
with determinism_unchanged(): ...           # the caller has his own setting back afterwards

On a CPU nothing that this program computes depends on the order in which threads end, with or without it. On a GPU the sums of
some operations do, unless it is given.
"""

import contextlib
import os
from collections.abc import Iterator

import torch

from utils.errors import InputError

# cuBLAS reads it when it starts; these are the values with which its products are the same each time.
WORKSPACE, FIXED = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")


def use_deterministic(on: bool, device: torch.device) -> None:
    """Switch torch's deterministic algorithms on or off. Raises InputError when CUDA has started with another workspace."""
    if on and device.type == "cuda" and os.environ.get(WORKSPACE) not in FIXED:
        if torch.cuda.is_initialized():
            raise InputError(
                f"--deterministic: CUDA has started already; set {WORKSPACE}={FIXED[0]} in the environment of this process"
            )
        os.environ[WORKSPACE] = FIXED[0]
    torch.use_deterministic_algorithms(on)
    if on:
        torch.backends.cudnn.benchmark = False  # which picks the algorithm that happened to be fastest


@contextlib.contextmanager
def determinism_unchanged() -> Iterator[None]:
    """Give the caller back torch's settings that `use_deterministic` changes; the environment stays, as cuBLAS does."""
    on, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(on, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
