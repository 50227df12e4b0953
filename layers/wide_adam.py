"""Adam for models with wide linear layers (layers/wide_linear.py): on a CPU their gradients are never whole in memory.

The gradient of a block of rows is formed from its factors and used while it is still in the processor's cache. On a GPU a block
is the whole layer, and gone after its update.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from layers.wide_linear import FEW_ROWS, clear_gradient, gradient_factors, wide_gradient

# Of a gradient at a time on a CPU; a GPU, where every block costs a launch, takes it whole. Outer products of few rows are as
# fast in small blocks, which stay in the cache; a matrix product is not.
BLOCK_BYTES = 8 * 2**20
PRODUCT_BLOCK_BYTES = 64 * 2**20

MOMENTS = ("exp_avg", "exp_avg_sq")


class WideAdam(torch.optim.Adam):
    """torch.optim.Adam, fused; the same numbers and the same state.

    A `found_inf` of 1.0, a scalar on the device, makes `step` do nothing, without the host having to know.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        self.found_inf: Tensor | None = None

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            for weight in group["params"]:
                clear_gradient(weight)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            whole = [p for p in group["params"] if p.grad is not None]
            self._update(group, whole, [p.grad for p in whole], [self._state_of(p) for p in whole])
            for weight in group["params"]:
                if gradient_factors(weight):
                    self._step_in_blocks(group, weight)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Moments are laid out in memory as the parameters are, whatever wrote the file."""
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            for name in MOMENTS:
                state[name] = torch.empty_like(parameter).copy_(state[name])

    def _step_in_blocks(self, group: dict[str, Any], weight: Tensor) -> None:
        state = self._state_of(weight)
        few = len(gradient_factors(weight)[0][1]) <= FEW_ROWS
        block_bytes = weight.nbytes if weight.is_cuda else BLOCK_BYTES if few else PRODUCT_BLOCK_BYTES
        rows = max(1, min(len(weight), block_bytes // weight[0].nbytes))
        block = torch.empty_like(weight[:rows])
        before = state["step"].clone()
        for first in range(0, len(weight), rows):
            here = slice(first, first + rows)
            gradient = wide_gradient(weight, here, out=block[: len(weight) - first])
            part = {name: state[name][here] for name in MOMENTS}
            part["step"] = state["step"].copy_(before)  # every update counts one step
            self._update(group, [weight[here]], [gradient], [part])

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            for name in MOMENTS:
                state[name] = torch.zeros_like(parameter)
        return state

    def _update(
        self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor], states: list[dict[str, Any]]
    ) -> None:
        adam(
            [_flat(p) for p in params],
            [_flat(g) for g in grads],
            [_flat(s["exp_avg"]) for s in states],
            [_flat(s["exp_avg_sq"]) for s in states],
            [],
            [s["step"] for s in states],
            fused=True,
            found_inf=self.found_inf,
            amsgrad=False,
            maximize=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
        )


def _flat(x: Tensor) -> Tensor:
    """All elements in the order of memory, [n], without a copy; autograd gives gradients the layout of their parameters.

    The fused kernel would first copy a gradient whose dimensions do not lie in their order.
    """
    return x.as_strided((x.numel(),), (1,))
