"""--compile: torch.compile, with a trial first, so that a failure shows before it can do harm, and with its reason.

    step = compile_or_explain(function, trial, device, what="the training step")

On CUDA the compiled functions are replayed as CUDA graphs, without launch overhead; on a CPU they are C++.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
import torch._inductor.config
from torch import Tensor

from model import SAL

TRIALS = 3  # per batch size

Function = TypeVar("Function", bound=Callable[..., Any])


def compile_or_explain(
    function: Function, trial: Callable[[Function], None], device: torch.device, *, what: str
) -> Function:
    """Compile `function` and try it; return `function` itself, after a line that says why, if that fails.

    The trial leaves the random generators as they were.
    """
    torch._inductor.config.fallback_random = True  # so that dropout draws as it does uncompiled
    try:
        compiled = cast(
            Function, torch.compile(function, mode="reduce-overhead" if device.type == "cuda" else "default")
        )
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            trial(compiled)
    except Exception as error:  # compilers can fail in any way
        torch.compiler.reset()
        cause = getattr(error, "inner_exception", None) or error
        reason = (str(cause).strip() or "no reason given").splitlines()[0]
        print(f"--compile: {what} stays uncompiled: {type(cause).__name__}: {reason}")
        return function
    return compiled


def trial_batches(model: SAL, *, batch_sizes: Sequence[int], num_segments: int) -> Iterator[Tensor]:
    """Yield features [B,T,D] of each size, repeatedly: a CUDA graph is recorded at the second call, replayed at the third."""
    device = next(model.parameters()).device
    for size in batch_sizes:
        features = torch.zeros(size, num_segments, model.channels, device=device)
        for _ in range(TRIALS):
            yield features
