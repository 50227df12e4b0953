"""Bilinear pooling with its normalisation, forward and backward, as one operation (docs/method.md, section 2).

    C = x^T x / T^2;  R = sign(C) sqrt(|C| + eps);  Q = R / |R|            x [B,T,H]; C, R, Q [B,H,H]

As single operations these keep half a dozen tensors the size of Q, which hold and move more than the rest of a step with a
large batch. Q alone says enough for the way back: with g the gradient of Q, n = |R| and s = <Q, g>,

    dR = (g - s Q) / n;  dC = dR / (2 |R|), 0 where C = 0;  dx = x (dC + dC^T) / T^2,  and |R| = n |Q|.
"""

from typing import Any

import torch
from torch import Tensor

SMALLEST_NORM = 1e-12  # as torch.nn.functional.normalize has it
FOLD_ROWS = 8  # of the weight at a time, so that folding needs little memory of its own


def signed_sqrt_(x: Tensor, eps: float) -> Tensor:
    """sign(x) sqrt(|x| + eps), in place; 0 stays 0."""
    sign = x.sign()
    return x.abs_().add_(eps).sqrt_().mul_(sign)


def bilinear_pool(x: Tensor) -> Tensor:
    """[B,T,H] -> C [B,H,H], float32 at least."""
    pooled = torch.bmm(x.transpose(1, 2), x)
    return pooled.to(torch.promote_types(x.dtype, torch.float32)).div_(x.shape[1] ** 2)


class SecondOrderPooling(torch.autograd.Function):
    """apply(x [B,T,H], eps) -> Q [B,H*H]"""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        rooted = signed_sqrt_(bilinear_pool(x).flatten(1), eps)
        norm = rooted.norm(dim=1, keepdim=True).clamp_min_(SMALLEST_NORM)
        q = rooted.div_(norm)
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
        return torch.bmm(x, both), None


class SymmetricHalf:
    """Where the entries j >= i of an [H,H] matrix lie, row by row: H(H+1)/2 positions, on a device."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        rows, columns = torch.triu_indices(size, size, device=device)
        self.position = rows * size + columns
        row = torch.arange(size, device=device)
        self.diagonal = row * size - row * (row - 1) // 2  # where row i begins, with its diagonal entry

    def take(self, matrices: Tensor) -> Tensor:
        """[B,H,H] -> [B,H(H+1)/2]"""
        return matrices.flatten(1).index_select(1, self.position)

    def norm(self, half: Tensor) -> Tensor:
        """L2 norm of the whole matrices: [B,H(H+1)/2] -> [B,1]"""
        squares = 2 * half.square().sum(1, keepdim=True) - half[:, self.diagonal].square().sum(1, keepdim=True)
        return squares.sqrt()

    def fold(self, weight: Tensor, out: Tensor) -> None:
        """Weights [N,H*H] for a whole matrix -> [N,H(H+1)/2] for its half, into `out`: w_ij + w_ji, and w_ii once."""
        for first in range(0, len(weight), FOLD_ROWS):
            matrices = weight[first : first + FOLD_ROWS].view(-1, self.size, self.size)
            both = matrices + matrices.mT
            both.diagonal(dim1=1, dim2=2).mul_(0.5)
            out[first : first + FOLD_ROWS] = self.take(both)
