"""Adam for models with wide linear layers (layers/wide_linear.py): on a CPU their full gradients are never in memory.

    optimizer = WideAdam(model.parameters(), lr=1e-4, betas=(0.9, 0.999), weight_decay=5e-4)

    loss.backward()
    optimizer.clip_grad_norm_(10.0)       # if at all: torch's own clipping misses the wide weights
    optimizer.step()

While it exists, the wide weights have no `.grad`. On a CPU the gradient of a block of rows is formed from its factors and used
while it is still in the processor's cache. On a GPU a kernel forms it on the fly (layers/rank_adam.py); where that can't be
used, a block is the entire layer, freed after its update.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.optim.adam import adam

from layers.rank_adam import rank_adam, takes
from layers.wide_linear import DeferredGradient, clear_deferred, defer_gradient, deferred_gradient

# How much of a gradient is formed at a time on a CPU; on a GPU, where every block costs a launch, all of it. Outer products of
# few rows are just as fast in small blocks, which stay in the cache; a matrix product is not.
BLOCK_BYTES = 8 * 2**20
PRODUCT_BLOCK_BYTES = 64 * 2**20

MOMENTS = ("exp_avg", "exp_avg_sq")

# What Adam itself does. Called as they stand, these methods import torch's compiler, which takes as long as importing torch.
_add_param_group, _zero_grad, _state_dict, _load_state_dict = (
    inspect.unwrap(getattr(torch.optim.Adam, name))
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
)


class WideAdam(torch.optim.Adam):
    """torch.optim.Adam, fused, with the same numbers and the same state.

    While it exists, it takes over the weights of WideLinear layers among its parameters: `backward` leaves their `.grad` alone,
    `gradient_of(parameter)` returns their gradients, and `clip_grad_norm_` counts and scales them.

    Gradients of several `backward`s add up until `step`, which uses those of the wide weights up: whatever clears `.grad`
    between steps, none counts twice. To drop them without a step, call the `zero_grad` of this optimiser, of a WideLinear or
    of SAL; that of another module that holds the layers misses them.

    If `found_inf`, a scalar on the device, is 1.0, `step` changes no weight and no moment, and the host need not read it.
    """

    found_inf: Tensor | None = None
    scheduled_lr: Tensor | None = (
        None  # in place of the groups' own learning rates, on the device, where a graph reads it
    )

    def __init__(self, params: Iterable[Tensor], *, lr: float, betas: tuple[float, float], weight_decay: float) -> None:
        self._taken_over: list[DeferredGradient] = []  # kept alive, never read
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        _add_param_group(self, param_group)
        self._taken_over += [defer_gradient(weight) for weight in self.param_groups[-1]["params"]]

    def zero_grad(self, set_to_none: bool = True) -> None:
        _zero_grad(self, set_to_none)
        for group in self.param_groups:
            clear_deferred(group["params"])

    @torch.no_grad()
    def clip_grad_norm_(self, max_norm: float) -> Tensor:
        """torch.nn.utils.clip_grad_norm_ over all parameters of this optimiser. Returns the norm before, a scalar."""
        formed, deferred_gradients = _by_gradient([p for group in self.param_groups for p in group["params"]])
        gradients = [gradient for _, gradient in formed]
        norms = [gradient.norm() for gradient in gradients] + [deferred.norm() for deferred in deferred_gradients]
        if not norms:
            return torch.tensor(0.0)
        total = torch.stack(norms).norm()
        factor = (max_norm / (total + 1e-6)).clamp_max(1)  # never read: the host need not wait
        for gradient in gradients:
            gradient.mul_(factor)
        for deferred in deferred_gradients:
            deferred.scale_(factor)
        return total

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            formed, deferred_gradients = _by_gradient(group["params"])
            parameters, gradients = [p for p, _ in formed], [gradient for _, gradient in formed]
            self._update(group, parameters, gradients, [self._state_of(p) for p in parameters])
            for deferred in deferred_gradients:
                if deferred.weight.grad is None and takes(deferred.weight, deferred.rank):
                    self._step_from_factors(group, deferred)
                else:
                    self._step_in_blocks(group, deferred)
                deferred.clear()
                parameters.append(deferred.weight)
            increment_version(parameters)  # the fused kernel does not
        return loss

    def schedule_lr(self, lr: float) -> None:
        """Take this learning rate from now on, whatever the groups say, whose numbers are those in checkpoints."""
        if self.scheduled_lr is None:
            self.scheduled_lr = torch.zeros((), device=self.param_groups[0]["params"][0].device)
        self.scheduled_lr.fill_(lr)

    def make_moments(self) -> None:
        """Give every parameter moments, zeros where it has none yet: those of its first step, for files written before it."""
        for group in self.param_groups:
            for parameter in group["params"]:
                self._state_of(parameter)

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = _state_dict(self)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store the moments in the memory layout of their parameters, whatever wrote the file."""
        _load_state_dict(self, state_dict)
        for parameter, state in self.state.items():
            for name in MOMENTS:
                state[name] = torch.empty_like(parameter).copy_(state[name])

    def _step_from_factors(self, group: dict[str, Any], deferred: DeferredGradient) -> None:
        state = self._state_of(deferred.weight)
        rank_adam(
            deferred.weight,
            state["exp_avg"],
            state["exp_avg_sq"],
            *deferred.joined(),
            step=state["step"],
            found_inf=self.found_inf,
            lr=self._lr_of(group),
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )

    def _step_in_blocks(self, group: dict[str, Any], deferred: DeferredGradient) -> None:
        weight = deferred.weight
        state = self._state_of(weight)
        block_bytes = weight.nbytes if weight.is_cuda else BLOCK_BYTES if deferred.few_rows else PRODUCT_BLOCK_BYTES
        count = max(1, min(len(weight), block_bytes // weight[0].nbytes))
        block = torch.empty_like(weight[:count])
        before = state["step"].clone()
        for first in range(0, len(weight), count):
            rows = slice(first, first + count)
            gradient = deferred.form(rows, out=block[: len(weight) - first])
            part = {name: state[name][rows] for name in MOMENTS}
            part["step"] = state["step"].copy_(before)  # every update counts one step
            self._update(group, [weight[rows]], [gradient], [part])

    def _lr_of(self, group: dict[str, Any]) -> float | Tensor:
        lr: float = group["lr"]
        return lr if self.scheduled_lr is None else self.scheduled_lr

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
            lr=self._lr_of(group),
            weight_decay=group["weight_decay"],
            eps=group["eps"],
        )


def _by_gradient(parameters: list[Tensor]) -> tuple[list[tuple[Tensor, Tensor]], list[DeferredGradient]]:
    """Parameters with a formed gradient, paired with it; and the gradients that are still to be formed."""
    formed, deferred_gradients = list[tuple[Tensor, Tensor]](), list[DeferredGradient]()
    for parameter in parameters:
        deferred = deferred_gradient(parameter)
        if deferred and deferred.factors:
            deferred_gradients.append(deferred)
        elif parameter.grad is not None:
            formed.append((parameter, parameter.grad))
    return formed, deferred_gradients


def _flat(x: Tensor) -> Tensor:
    """All elements in memory order, [n], without a copy; autograd gives gradients the layout of their parameters.

    The fused kernel would first copy a gradient that is not contiguous.
    """
    return x.as_strided((x.numel(),), (1,))
