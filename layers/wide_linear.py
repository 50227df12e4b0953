"""A linear layer for a very wide input (H*H) and a very small batch, as second-order semantics need it.

    layer = WideLinear(H * H, C)          # nn.Linear for [B,H*H], to any optimiser, clipping, averaging or deep copy
    deferred = defer_gradient(weight)     # layers/wide_adam.py takes the weight over

Its results are those of torch.nn.functional.linear with fewer digits lost: the sum over 262,144 products is taken in chunks.
That is also faster: with B of 1 or 2 such a layer costs as much as reading its weight, and torch's own products do not reach
memory speed there.

The weight's gradient is an outer product of B rows, as large as the weight. An optimiser that forms it a few rows at a time,
where it uses them, saves writing and reading it once: while it holds a DeferredGradient of the weight, `backward` adds the
factors to that and leaves `weight.grad` alone. Once the optimiser is gone, so is the DeferredGradient, and the layer is
nn.Linear again.
"""

import weakref
from typing import Any

import torch
from torch import Tensor, nn

CHUNKS = 64  # partial sums; any number that divides the width gives the same layer
FEW_ROWS = 4  # up to here B outer products beat one matrix product


class WideLinear(nn.Linear):
    """nn.Linear for a wide input and a small batch: [B,W] -> [B,N], B at least 1."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return wide_linear(x, self.weight, self.bias)


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [B,W] by weight [N,W] and bias [N] -> [B,N], B at least 1.

    When compiled, its gradient is always an ordinary one: compilers drop the side effects of `backward`.
    """
    return _product(x, weight) + bias if torch.compiler.is_compiling() else _WideLinear.apply(x, weight, bias)


class DeferredGradient:
    """The gradient of a wide weight [N,W], not yet formed: the factors from every `backward` since the last `clear`."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight  # kept alive, so that its id stays its own
        self.factors: list[tuple[Tensor, Tensor]] = []  # per call: gradient of the output [B,N], input [B,W]

    @property
    def few_rows(self) -> bool:
        """Whether forming the gradient takes outer products rather than a matrix product."""
        return len(self.factors[0][1]) <= FEW_ROWS

    def form(self, rows: slice = slice(None), *, out: Tensor | None = None) -> Tensor:
        """The gradient of these rows of the weight, [n,W], in `out` if given; weight.grad is added to it."""
        (first_grad, first_x), *later_factors = self.factors
        out = _outer(first_grad[:, rows], first_x, out)
        for grad, x in later_factors:
            out.addmm_(grad[:, rows].t(), x)
        return out if self.weight.grad is None else out.add_(self.weight.grad[rows])

    def clear(self) -> None:
        self.factors.clear()


# By the id of the weight. An entry lives as long as its value is referenced elsewhere.
_deferred: weakref.WeakValueDictionary[int, DeferredGradient] = weakref.WeakValueDictionary()


def defer_gradient(weight: Tensor) -> DeferredGradient:
    """Take a weight over: while the result is held, `backward` adds factors to it. A later call takes over in turn."""
    deferred = _deferred[id(weight)] = DeferredGradient(weight)
    return deferred


def deferred_gradient(weight: Tensor) -> DeferredGradient | None:
    """The deferred gradient of a weight that was taken over; None for any other weight."""
    return _deferred.get(id(weight))


def gradient_of(parameter: Tensor) -> Tensor | None:
    """The full gradient of any parameter, deferred or not; None when it has none."""
    deferred = deferred_gradient(parameter)
    return deferred.form() if deferred and deferred.factors else parameter.grad


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight) + bias

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor]:
        (grad,) = grad_outputs
        x, weight = ctx.saved_tensors
        grad_weight = None
        if ctx.needs_input_grad[1]:
            deferred = deferred_gradient(weight)
            if deferred is None:
                grad_weight = _outer(grad, x, None)
            else:
                deferred.factors.append((grad, x))
        return _grad_input(grad, weight), grad_weight, grad.sum(0)


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """[chunks,B,w] by [chunks,w,N], summed over the chunks: [B,N]"""
    return torch.bmm(_chunked(x).transpose(0, 1), _chunked(weight).permute(1, 2, 0)).sum(0)


def _outer(grad: Tensor, x: Tensor, out: Tensor | None) -> Tensor:
    """[B,n] and [B,W] -> [n,W], the sum of B outer products."""
    if len(x) > FEW_ROWS:
        return torch.mm(grad.t(), x, out=out)
    out = torch.mul(grad[0].unsqueeze(1), x[0], out=out)
    for grad_row, x_row in zip(grad[1:], x[1:], strict=True):
        out.addcmul_(grad_row.unsqueeze(1), x_row)
    return out


def _grad_input(grad: Tensor, weight: Tensor) -> Tensor:
    """[B,N] by [N,W] -> [B,W]"""
    chunks = _chunked(weight).transpose(0, 1)  # [chunks,N,w]
    return torch.bmm(grad.expand(len(chunks), -1, -1), chunks).transpose(0, 1).reshape(len(grad), -1)


def _chunked(x: Tensor) -> Tensor:
    """[B,W] -> [B,chunks,W/chunks]"""
    return x.reshape(len(x), CHUNKS if x.shape[1] % CHUNKS == 0 else 1, -1)
