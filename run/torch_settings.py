"""Torch's settings that hold for a whole process: --deterministic, and giving all of them back to a caller.

use_deterministic(True, device)             # before anything is computed there; raises InputError where it is too late
with torch_unchanged(): ...                 # the caller has his own settings and random state afterwards

On a CPU nothing that this program computes depends on the order in which threads end, with or without --deterministic. On a
GPU the sums of some operations do, unless it is given.
"""

import contextlib
import os
from collections.abc import Iterator

import torch

from layers.products import current_library, use_library
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
def torch_unchanged() -> Iterator[None]:
    """Give the caller back what a machine of ours changes, and the random state. WORKSPACE stays, as cuBLAS does."""
    cuda = torch.cuda.current_device() if torch.cuda.is_available() else None
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    on, warn_only = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark, library = torch.backends.cudnn.benchmark, current_library()
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_default_dtype(dtype)
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
            torch.use_deterministic_algorithms(on, warn_only=warn_only)
            torch.backends.cudnn.benchmark = benchmark
            torch.set_num_threads(threads)
            use_library(library)
            if cuda is not None:
                torch.cuda.set_device(cuda)
