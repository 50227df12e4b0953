"""Bilinear pooling with its normalisation, forward and backward, as one operation (docs/method.md, section 2).

    C = x^T x / T^2;  R = sign(C) sqrt(|C| + eps);  Q = R / |R|            x [B,T,H]; C, R, Q [B,H,H]

As separate operations these keep half a dozen tensors the size of Q, which hold and move more than the rest of a step with a
large batch. Q alone is enough for the backward pass: with g the gradient of Q, n = |R| and s = <Q, g>,

    dR = (g - s Q) / n;  dC = dR / (2 |R|), 0 where C = 0;  dx = x (dC + dC^T) / T^2,  and |R| = n |Q|.
"""

from typing import Any

import torch
from torch import Tensor, nn

SMALLEST_NORM = 1e-12  # as in torch.nn.functional.normalize
FOLD_ROWS = 8  # rows of a weight that are folded at a time, to save memory


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
        return torch.bmm(x, both), None


class SymmetricHalf(nn.Module):
    """The entries j >= i of symmetric [H,H] matrices, row by row: H(H+1)/2 numbers that determine the matrix."""

    position: Tensor  # [H(H+1)/2], of each entry in the flat matrix
    diagonal: Tensor  # [H], of each diagonal entry in the half, where its row begins

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        rows, columns = torch.triu_indices(size, size)
        row = torch.arange(size)
        self.register_buffer("position", rows * size + columns, persistent=False)
        self.register_buffer("diagonal", row * size - row * (row - 1) // 2, persistent=False)

    def __len__(self) -> int:
        return len(self.position)

    def take(self, matrices: Tensor) -> Tensor:
        """[B,H,H] -> [B,H(H+1)/2]"""
        return matrices.flatten(1).index_select(1, self.position)

    def norm(self, half: Tensor) -> Tensor:
        """L2 norm of the full matrices: [B,H(H+1)/2] -> [B,1]"""
        squares = 2 * half.square().sum(1, keepdim=True) - half[:, self.diagonal].square().sum(1, keepdim=True)
        return squares.sqrt()

    def fold(self, weight: Tensor, *, out: Tensor) -> None:
        """Fold weights [N,H*H] of a full matrix into `out` [N,H(H+1)/2] for its half: w_ij + w_ji, and w_ii once."""
        for first in range(0, len(weight), FOLD_ROWS):
            matrices = weight[first : first + FOLD_ROWS].view(-1, self.size, self.size)
            both = matrices + matrices.mT
            both.diagonal(dim1=1, dim2=2).mul_(0.5)
            out[first : first + FOLD_ROWS] = self.take(both)
