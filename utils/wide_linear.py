"""A linear layer whose input is very wide (H*H) and whose batch is very small, as second-order semantics make it.

Same numbers as torch.nn.functional.linear, except that they are better: one float32 sum over 262,144 products loses digits, so
the sum is taken in chunks. And faster: the library's product for the weight's gradient, an outer product of B rows, does
not reach memory speed when B is 1 or 2.
"""

from typing import Any

import torch
from torch import Tensor

CHUNKS = 64  # partial sums; any number that divides H*H gives the same layer
FEW_ROWS = 4  # up to here B outer products beat one matrix product


class _WideLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        (rows, width), chunks = x.shape, CHUNKS if x.shape[1] % CHUNKS == 0 else 1
        x_chunks = x.reshape(rows, chunks, width // chunks).transpose(0, 1)
        weight_chunks = weight.view(len(weight), chunks, width // chunks).permute(1, 2, 0)
        return torch.bmm(x_chunks, weight_chunks).sum(0) + bias

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (grad,) = grad_outputs
        x, weight = ctx.saved_tensors
        if len(x) <= FEW_ROWS:
            grad_weight = grad[0].unsqueeze(1) * x[0]
            for grad_row, x_row in zip(grad[1:], x[1:], strict=True):
                grad_weight.addcmul_(grad_row.unsqueeze(1), x_row)
        else:
            grad_weight = grad.t() @ x
        return grad @ weight, grad_weight, grad.sum(0)


def wide_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x [B,W] by weight [N,W] and bias [N] -> [B,N], B at least 1."""
    return _WideLinear.apply(x, weight, bias)
