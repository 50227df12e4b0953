"""--compile: torch.compile, with a trial first, so that a failure shows before it can do harm, and with its reason.

    step = compile_or_explain(function, trial, device, what="the training step")

The trial calls the compiled function on batches like those of the run, and compares its numbers with the uncompiled function's:
a compiler that fails is found out by itself, one that computes something else is not. On CUDA the compiled functions are
replayed as CUDA graphs, without launch overhead; on a CPU they are C++.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from layers.dropout import Dropout
from layers.wide_linear import deferred_gradient
from model import SAL

TRIALS = 3  # per batch size
TRIAL_SEED = 0  # of the features of the trial: the same outcome every time

# How far compiled numbers may be from uncompiled ones, as a share of their norm. Sums are taken in another order, which may
# move a snippet in or out of a top-k. A gradient that is lost, or counts twice, is off by more.
TOLERANCES = {"fp32": 0.005, "tf32": 0.02, "bf16": 0.05}
# The same for what is close to zero because its terms cancel: this share of the norm of all of them counts as its norm. The
# smallest gradient of the published networks, that of the video classifier, is 0.0003 of all.
SMALL_SHARE, SMALL_SHARE_OF_GRADIENTS = 0.01, 0.002

Function = TypeVar("Function", bound=Callable[..., Any])


class ResultsDifferError(Exception):
    """The compiled function computes other numbers than the uncompiled one."""


def compile_or_explain(
    function: Function, trial: Callable[[Function], None], device: torch.device, *, what: str
) -> Function:
    """Compile `function` and try it; return `function` itself, after a line that says why, if that fails.

    The trial leaves the random generators as they were.
    """
    from torch._inductor import config  # here, since it takes as long as torch itself

    config.fallback_random = True  # so that dropout draws as it does uncompiled
    try:
        compiled = cast(
            Function, torch.compile(function, mode="reduce-overhead" if device.type == "cuda" else "default")
        )
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            trial(compiled)
    except Exception as error:  # compilers can fail in any way
        torch.compiler.reset()
        print(f"--compile: {what} stays uncompiled: {_reason(error)}")
        return function
    return compiled


def trial_batches(model: SAL, *, batch_sizes: Sequence[int], num_segments: int) -> Iterator[Tensor]:
    """Yield features [B,T,D] of each size, repeatedly: a CUDA graph is recorded at the second call, replayed at the third."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(TRIAL_SEED)
    for size in batch_sizes:
        features = torch.rand(size, num_segments, model.channels, generator=generator).to(device)
        for _ in range(TRIALS):
            yield features


@contextlib.contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Drop nothing until the block ends, in training mode too."""
    shares = {module: module.p for module in model.modules() if isinstance(module, Dropout)}
    try:
        for module in shares:
            module.p = 0.0
        yield
    finally:
        for module, share in shares.items():
            module.p = share


@contextlib.contextmanager
def unchanged(model: nn.Module, mask: nn.Module) -> Iterator[None]:
    """Restore at the end what a forward and a backward pass change: gradients, deferred ones too, modes and statistics."""
    modes = {module: module.training for module in model.modules()}
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    deferred = [found for parameter in gradients if (found := deferred_gradient(parameter))]
    factors = [list(found.factors) for found in deferred]
    statistics = copy.deepcopy(mask.state_dict())
    try:
        yield
    finally:
        mask.load_state_dict(statistics)
        for found, before in zip(deferred, factors, strict=True):
            found.factors[:] = before
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        for module, mode in modes.items():
            module.training = mode


def check_same(
    compiled: Mapping[str, Tensor], uncompiled: Mapping[str, Tensor], model: SAL, *, small_share: float = SMALL_SHARE
) -> None:
    """Raise ResultsDifferError naming the first tensor that differs by more than its rounding explains.

    Tensors that are given together should be of one kind: beside a large loss every gradient would be small.
    """
    tolerance = TOLERANCES[_precision(model)]
    small = small_share * torch.stack([value.norm() for value in uncompiled.values()]).norm().item()
    for name, expected in uncompiled.items():
        norm = max(expected.norm().item(), small)
        difference = (compiled[name] - expected).norm().item()
        if not difference <= tolerance * norm:  # NaN differs too
            raise ResultsDifferError(
                f"{name} would differ from the uncompiled by {difference / norm if norm else difference:.2g} of its norm, "
                f"at most {tolerance:g} is rounding"
            )


def _precision(model: SAL) -> str:
    """The key of TOLERANCES for a model's large matrix products."""
    if model.compute_dtype == torch.bfloat16:
        return "bf16"
    on_gpu = next(model.parameters()).is_cuda
    return "tf32" if on_gpu and torch.backends.cuda.matmul.allow_tf32 else "fp32"


def _reason(error: Exception) -> str:
    """One line that says why compiling failed."""
    if isinstance(error, ResultsDifferError):
        return str(error)
    cause = getattr(error, "inner_exception", None) or error
    lines = str(cause).strip().splitlines() or ["no reason given"]
    return f"{type(cause).__name__}: {lines[0]}"
