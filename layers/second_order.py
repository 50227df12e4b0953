"""Bilinear pooling with its normalisation, forward and backward, as one operation (docs/method.md, section 2).

    C = x^T x / T^2;  R = sign(C) sqrt(|C| + eps);  Q = R / |R|            x [B,T,H]; C, R, Q [B,H,H]

As separate operations these keep half a dozen tensors the size of Q, which hold and move more than the rest of a step with a
large batch. Q alone is enough for the backward pass: with g the gradient of Q, n = |R| and s = <Q, g>,

    dR = (g - s Q) / n;  dC = dR / (2 |R|), 0 where C = 0;  dx = x (dC + dC^T) / T^2,  and |R| = n |Q|.
"""

from typing import Any

import torch
from torch import Tensor

from layers.products import batched_product

SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize


def signed_sqrt_(x: Tensor, eps: float) -> Tensor:
    """sign(x) sqrt(|x| + eps), in place; 0 stays 0."""
    sign = x.sign()
    return x.abs_().add_(eps).sqrt_().mul_(sign)


def bilinear_pool(x: Tensor) -> Tensor:
    """[B,T,H] -> C [B,H,H], float32 at least."""
    pooled = batched_product(x.mT, x.mT)
    return pooled.to(torch.promote_types(x.dtype, torch.float32)).div_(x.shape[1] ** 2)


class SecondOrderPooling(torch.autograd.Function):
    """apply(x [B,T,H], eps) -> Q [B,H*H]"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        rooted = signed_sqrt_(bilinear_pool(x).flatten(1), eps)
        norm = rooted.norm(dim=1, keepdim=True).clamp_min(SMALLEST_NORM)
        q = rooted / norm  # not in place: compiled by torch 2.11, a result that was changed in place has no gradient
        ctx.save_for_backward(x, q, norm)
        return q

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,) = grad_outputs
        x, q, norm = ctx.saved_tensors
        h = x.shape[2]
        along = (q * grad).sum(1, keepdim=True)
        grad_c = torch.addcmul(grad, q, along, value=-1)
        grad_c.div_(q.abs().mul_(2 * norm**2)).masked_fill_(q == 0, 0)
        grad_c = grad_c.view(-1, h, h)
        both = (grad_c + grad_c.mT).div_(x.shape[1] ** 2).to(x.dtype)
        return batched_product(x, both), None  # both is symmetric
