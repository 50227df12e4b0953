"""--compile: torch.compile, with a trial first, so that a failure is found before it can do harm, and says why.

On CUDA the compiled functions are replayed as CUDA graphs, which leaves a step no launch overhead; on a CPU they are C++.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
import torch._inductor.config
from torch import Tensor

from model import SAL, FoldedLayers, SalOutput
from train import Objective, StepResult

TRIALS = 3  # of each batch size

Function = TypeVar("Function", bound=Callable[..., Any])


def compile_objective(
    objective: Objective, batch_sizes: Sequence[int], num_segments: int
) -> Callable[[Tensor, Tensor], StepResult]:
    """The objective, forward and backward, compiled for batches of these sizes; as it is when that fails."""
    model = objective.model

    def trial(compiled: Callable[[Tensor, Tensor], StepResult]) -> None:
        statistics = copy.deepcopy(objective.mask.state_dict())
        model.train()
        try:
            for features in _trial_batches(model, batch_sizes, num_segments):
                labels = torch.ones(len(features), model.config.num_classes, device=features.device)
                compiled(features, labels).losses[-1].backward()
                model.zero_grad()
        finally:
            objective.mask.load_state_dict(statistics)
            model.zero_grad()

    return _compile_or_explain(objective.__call__, trial, model.fc.weight.device, what="the training step")


def compile_infer(
    model: SAL, batch_sizes: Sequence[int], num_segments: int
) -> Callable[[Tensor, FoldedLayers], SalOutput]:
    """model.infer, compiled for batches of these sizes and T snippets; as it is when that fails, and for any other T."""

    @torch.inference_mode()
    def trial(compiled: Callable[[Tensor, FoldedLayers], SalOutput]) -> None:
        model.eval()
        layers = model.fold()
        for features in _trial_batches(model, batch_sizes, num_segments):
            compiled(features, layers)

    compiled = _compile_or_explain(model.infer, trial, model.fc.weight.device, what="the test forward")

    def infer(features: Tensor, layers: FoldedLayers) -> SalOutput:
        return (compiled if features.shape[1] == num_segments else model.infer)(features, layers)

    return infer


def _trial_batches(model: SAL, batch_sizes: Sequence[int], num_segments: int) -> Iterator[Tensor]:
    """Features of each size, several times: a CUDA graph is recorded at the second call and replayed at the third."""
    channels = model.config.feature_size * len(model.config.streams)
    for size in batch_sizes:
        features = torch.zeros(size, num_segments, channels, device=model.fc.weight.device)
        for _ in range(TRIALS):
            yield features


def _compile_or_explain(
    function: Function, trial: Callable[[Function], None], device: torch.device, *, what: str
) -> Function:
    """`function` compiled, when a trial of that succeeds; else `function`, after a line that says why.

    The trial leaves the random generators as they were.
    """
    torch._inductor.config.fallback_random = True  # dropout then draws as it does uncompiled
    try:
        compiled = cast(
            Function, torch.compile(function, mode="reduce-overhead" if device.type == "cuda" else "default")
        )
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            trial(compiled)
    except Exception as error:  # compilers fail in any way
        torch.compiler.reset()
        cause = getattr(error, "inner_exception", None) or error
        reason = (str(cause).strip() or "no reason given").splitlines()[0]
        print(f"--compile: {what} goes on uncompiled, for: {type(cause).__name__}: {reason}")
        return function
    return compiled
