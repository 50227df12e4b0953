"""Adam for models with wide linear layers (utils/wide_linear.py): their gradients are never whole in memory.

The gradient of a block of rows is formed from its factors and used while it is still in the processor's cache.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from utils.wide_linear import clear_gradient, gradient_factors, wide_gradient

BLOCK_BYTES = (
    8 * 2**20
)  # of a gradient at a time on a CPU, about its cache; a GPU, where every block costs a launch, takes it whole


class WideAdam(torch.optim.Adam):
    """torch.optim.Adam, fused; the same numbers and the same state.

    A `found_inf` of 1.0, a scalar on the device, makes `step` do nothing, without the host having to know.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        self.grad_scale: Tensor | None = None  # torch's own names, which its fused step looks for
        self.found_inf: Tensor | None = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            for weight in group["params"]:
                clear_gradient(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = super().step(closure)
        for group in self.param_groups:
            for weight in group["params"]:
                if gradient_factors(weight):
                    self._step_in_blocks(weight, group)
        return loss

    def _step_in_blocks(self, weight: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), device=weight.device)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        rows = len(weight) if weight.is_cuda else max(1, BLOCK_BYTES // weight[0].nbytes)
        block = torch.empty_like(weight[:rows])
        before = state["step"].clone()
        for first in range(0, len(weight), rows):
            here = slice(first, first + rows)
            gradient = wide_gradient(weight, here, out=block[: len(weight) - first])
            state["step"].copy_(before)  # every call counts one step
            adam(
                [weight[here]],
                [gradient],
                [state["exp_avg"][here]],
                [state["exp_avg_sq"][here]],
                [],
                [state["step"]],
                fused=True,
                grad_scale=self.grad_scale,
                found_inf=self.found_inf,
                amsgrad=False,
                maximize=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
            )
