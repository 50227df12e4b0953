"""A linear layer whose input is very wide (H*H) and whose batch is very small, as second-order semantics make it.

Same numbers as torch.nn.functional.linear, except that they are better: one float32 sum over 262,144 products loses digits, so
the sum is taken in chunks. And faster: with B of 1 or 2 such a layer costs as much as reading its weight, and the library's own
products do not reach memory speed there.

The weight's gradient is an outer product of B rows. It is as large as the weight and would be written and read once for
nothing, so `backward` leaves its two factors, and layers/wide_adam.py forms the gradient a few rows at a time where it uses it:
`weight.grad` stays None. Whoever wants to look at gradients, to clip them say, calls `gradient_of(parameter)`.
"""

from typing import Any

import torch
from torch import Tensor

CHUNKS = 64  # partial sums; any number that divides the width gives the same layer
FEW_ROWS = 4  # up to here B outer products beat one matrix product


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [B,W] by weight [N,W] and bias [N] -> [B,N], B at least 1.

    Compiled, it is an ordinary layer with an ordinary gradient: compilers do not carry out what `backward` does on the side.
    """
    return _product(x, weight) + bias if torch.compiler.is_compiling() else _WideLinear.apply(x, weight, bias)


def gradient_factors(weight: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What `backward` has left since the last `clear_gradient`: (gradient of the output [B,N], input [B,W]) of every call."""
    return getattr(weight, "_gradient_factors", [])


def gradient_of(parameter: Tensor) -> Tensor | None:
    """The gradient of any parameter, whole; None when there is none."""
    return wide_gradient(parameter) if gradient_factors(parameter) else parameter.grad


def clear_gradient(weight: Tensor) -> None:
    gradient_factors(weight).clear()


def wide_gradient(weight: Tensor, rows: slice = slice(None), out: Tensor | None = None) -> Tensor:
    """The gradient of these rows of the weight, [n,W]; into `out` if given."""
    (first_grad, first_x), *others = gradient_factors(weight)
    out = _outer(first_grad[:, rows], first_x, out)
    for grad, x in others:
        out.addmm_(grad[:, rows].t(), x)
    return out


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight) + bias

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, None, Tensor]:
        (grad,) = grad_outputs
        x, weight = ctx.saved_tensors
        if ctx.needs_input_grad[1]:
            weight._gradient_factors = [*gradient_factors(weight), (grad, x)]
        return _grad_input(grad, weight), None, grad.sum(0)


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
