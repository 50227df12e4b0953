"""A linear layer for a very wide input (H*H) and a very small batch, as second-order semantics need it.

    layer = WideLinear(H * H, C)          # nn.Linear to any caller, optimiser, clipping, averaging or deep copy
    deferred = defer_gradient(weight)     # layers/wide_adam.py takes the weight over

Its results are those of torch.nn.functional.linear with fewer digits lost: the sum over 262,144 products is taken in chunks.
That is also faster: with B of 1 or 2 such a layer costs as much as reading its weight, and torch's own products do not reach
memory speed there. Inputs other than [B,W] in the weight's single or double precision take torch's own way.

The weight's gradient is an outer product of B rows, as large as the weight. An optimiser that forms it a few rows at a time,
where it uses them, saves writing and reading it once: while it holds a DeferredGradient of the weight, `backward` adds the
factors to that and leaves `weight.grad` alone. Once the optimiser is gone, so is the DeferredGradient, and the layer is
nn.Linear again.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHUNKS = 64  # partial sums; any number that divides the width gives the same layer
FEW_ROWS = 4  # up to here B outer products beat one matrix product on a CPU


class WideLinear(nn.Linear):
    """nn.Linear, made for a wide input and a small batch: [B,W] -> [B,N]. Any other input has nn.Linear's results."""

    def forward(self, x: Tensor) -> Tensor:
        return wide_linear(x, self.weight, self.bias)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        clear_deferred(self.parameters())


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """torch.nn.functional.linear: x [...,W] by weight [N,W] and bias [N] -> [...,N]; in chunks where x is [B,W].

    When compiled, its gradient is always an ordinary one: compilers drop the side effects of `backward`.
    """
    if not _takes_chunks(x, weight):
        return F.linear(x, weight, bias)
    if torch.compiler.is_compiling():
        return _with_bias(_product(x, weight), bias)
    product: Tensor = _WideLinear.apply(x, weight, bias)
    return product


class DeferredGradient:
    """The gradient of a wide weight [N,W], not yet formed: the factors from every `backward` since the last `clear`."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight  # kept alive, so that its id stays its own
        self.factors: list[tuple[Tensor, Tensor]] = []  # per call: gradient of the output [B,N], input [B,W]

    @property
    def few_rows(self) -> bool:
        """Whether forming the gradient takes outer products rather than a matrix product."""
        return _few_rows(self.factors[0][1])

    @property
    def rank(self) -> int:
        """R, the rows of all factors together."""
        return sum(len(x) for _, x in self.factors)

    def joined(self) -> tuple[Tensor, Tensor]:
        """All factors as one pair: gradients of the output [R,N], inputs [R,W]."""
        if len(self.factors) == 1:
            return self.factors[0]
        grads, inputs = zip(*self.factors, strict=True)
        return torch.cat(grads), torch.cat(inputs)

    def form(self, rows: slice = slice(None), *, out: Tensor | None = None) -> Tensor:
        """The gradient of these rows of the weight, [n,W], in `out` if given; weight.grad is added to it."""
        (first_grad, first_x), *later_factors = self.factors
        out = _outer(first_grad[:, rows], first_x, out)
        for grad, x in later_factors:
            out.addmm_(grad[:, rows].t(), x)
        return out if self.weight.grad is None else out.add_(self.weight.grad[rows])

    def norm(self) -> Tensor:
        """Its L2 norm, from the factors alone: |sum of g x^T|^2 is the sum over (G G^T)(X X^T), entry by entry."""
        if self.weight.grad is not None:
            return self.form().norm()
        grads, inputs = (joined.double() for joined in self.joined())
        squares = (grads @ grads.t()) * (inputs @ inputs.t())
        return squares.sum().clamp_min(0).sqrt().to(self.weight.dtype)

    def scale_(self, factor: Tensor) -> None:
        """Multiply the gradient by a scalar."""
        self.factors = [(grad * factor, x) for grad, x in self.factors]
        if self.weight.grad is not None:
            self.weight.grad.mul_(factor)

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


def clear_deferred(parameters: Iterable[Tensor]) -> None:
    """Clear the deferred gradients of those parameters that have one."""
    for parameter in parameters:
        if deferred := deferred_gradient(parameter):
            deferred.clear()


def gradient_of(parameter: Tensor) -> Tensor | None:
    """The full gradient of any parameter, deferred or not; None when it has none."""
    deferred = deferred_gradient(parameter)
    return deferred.form() if deferred and deferred.factors else parameter.grad


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _with_bias(_product(x, weight), bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,) = grad_outputs
        x, weight = ctx.saved_tensors
        grad_weight = None
        if ctx.needs_input_grad[1]:
            deferred = deferred_gradient(weight)
            if deferred is None:
                grad_weight = _outer(grad, x, None)
            else:
                deferred.factors.append((grad, x))
        grad_x = _grad_input(grad, weight) if ctx.needs_input_grad[0] else None
        return grad_x, grad_weight, grad.sum(0) if ctx.needs_input_grad[2] else None


def _takes_chunks(x: Tensor, weight: Tensor) -> bool:
    """Whether x is [B,W] with B at least 1 and in the weight's dtype, where partial sums in that dtype lose nothing."""
    return (
        x.dim() == 2
        and x.shape[1] == weight.shape[1]
        and x.numel() > 0
        and weight.numel() > 0
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled(x.device.type)
    )


def _with_bias(product: Tensor, bias: Tensor | None) -> Tensor:
    return product if bias is None else product + bias


def _few_rows(x: Tensor) -> bool:
    """Whether outer products of the rows of x [B,W] are the faster way: not on a GPU, where each is a pass over memory."""
    return len(x) <= FEW_ROWS and not x.is_cuda


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """[chunks,B,w] by [chunks,w,N], summed over the chunks: [B,N]. On a GPU the chunks keep all of it busy, too."""
    return torch.bmm(_chunked(x).transpose(0, 1), _chunked(weight).permute(1, 2, 0)).sum(0)


def _outer(grad: Tensor, x: Tensor, out: Tensor | None) -> Tensor:
    """[B,n] and [B,W] -> [n,W], the sum of B outer products."""
    if not _few_rows(x):
        return torch.mm(grad.t(), x, out=out)
    out = torch.mul(grad[0].unsqueeze(1), x[0], out=out)
    for grad_row, x_row in zip(grad[1:], x[1:], strict=True):
        out.addcmul_(grad_row.unsqueeze(1), x_row)
    return out


def _grad_input(grad: Tensor, weight: Tensor) -> Tensor:
    """[B,N] by [N,W] -> [B,W]"""
    if grad.is_cuda:  # W keeps a GPU busy without chunks, which would cost it a transposition
        return torch.mm(grad, weight)
    chunks = _chunked(weight).transpose(0, 1)  # [chunks,N,w]
    return torch.bmm(grad.expand(len(chunks), -1, -1), chunks).transpose(0, 1).reshape(len(grad), -1)


def _chunked(x: Tensor) -> Tensor:
    """[B,W] -> [B,chunks,W/chunks]"""
    return x.reshape(len(x), CHUNKS if x.shape[1] % CHUNKS == 0 else 1, -1)
