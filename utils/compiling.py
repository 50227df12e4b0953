"""--compile: torch.compile, with a trial first, so that a failure is found before it can do harm, and says why.

On CUDA the compiled functions are replayed as CUDA graphs, which leaves a step no launch overhead; on a CPU they are C++.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch._inductor.config
from torch import Tensor

from model import SAL, FoldedLayers, SalOutput
from train import Objective, StepResult

Function = TypeVar("Function", bound=Callable[..., Any])


def compile_objective(
    objective: Objective, batch_size: int, num_segments: int
) -> Callable[[Tensor, Tensor], StepResult]:
    """The objective, forward and backward, compiled for batches of this size; as it is when that fails."""
    model, config = objective.model, objective.model.config
    device = model.fc.weight.device
    features = torch.zeros(batch_size, num_segments, config.feature_size * len(config.streams), device=device)
    labels = torch.ones(batch_size, config.num_classes, device=device)

    def trial(compiled: Callable[[Tensor, Tensor], StepResult]) -> None:
        statistics = copy.deepcopy(objective.mask.state_dict())
        model.train()
        try:
            compiled(features, labels).losses[-1].backward()
        finally:
            objective.mask.load_state_dict(statistics)
            model.zero_grad()

    return _compile_or_explain(objective.__call__, trial, device, what="the training step")


def compile_infer(model: SAL, batch_size: int, num_segments: int) -> Callable[[Tensor, FoldedLayers], SalOutput]:
    """model.infer, compiled for batches of this size; as it is when that fails."""
    device, config = model.fc.weight.device, model.config
    features = torch.zeros(batch_size, num_segments, config.feature_size * len(config.streams), device=device)

    @torch.inference_mode()
    def trial(compiled: Callable[[Tensor, FoldedLayers], SalOutput]) -> None:
        model.eval()
        compiled(features, model.fold())

    return _compile_or_explain(model.infer, trial, device, what="the test forward")


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
