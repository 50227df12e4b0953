"""The upper half of symmetric matrices, and linear layers on it.

A linear layer on all of a symmetric matrix reads every entry off the diagonal twice. Its weights for q_ij and q_ji can be added
once, and half the weights are left to read for every batch.
"""

import torch
from torch import Tensor

FOLD_ROWS = 8  # of the weight at a time, so that folding needs little memory of its own


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
