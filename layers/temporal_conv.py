"""Temporal convolution over snippets, as plain matrix products of distinct rows.

A k-tap convolution is one product of the rows with the weights of all taps, then, for each snippet, the sum of its neighbours'
shares. A snippet that occurs many times is multiplied once, and its weight gradient takes the sum of the output gradients that
it had a share in. To this end the weight, of shape [H,D,k], is stored tap by tap.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers.products import product
from layers.snippets import Placement, Snippets

TAPS_AT_ONCE = 16  # of a wide kernel: all taps' shares together would not fit into memory


class TemporalConv(nn.Conv1d):
    """Convolution over snippets that keeps their number: [B,T,D] -> [B,T,H], an odd number of taps.

    Parameters and their initial values are those of nn.Conv1d; they are cast to the dtype of the input.
    """

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.weight = nn.Parameter(taps_first(self.weight.detach()))

    def forward(self, x: Tensor | Snippets) -> Tensor:
        dtype = x.parts[0].rows.dtype if isinstance(x, Snippets) else x.dtype
        return temporal_conv(x, self.weight.to(dtype), self.bias.to(dtype))

    def output_for_sum(self, outputs: Tensor) -> Tensor:
        """The output for x + y, given the sum of the outputs for x and y. Only the bias is not linear, and counts once."""
        return outputs - self.bias.to(outputs.dtype)


def temporal_conv(x: Tensor | Snippets, weight: Tensor, bias: Tensor) -> Tensor:
    """Same-padded 1-D convolution over snippets: [B,T,D] by [H,D,k] and [H] -> [B,T,H], k odd."""
    if isinstance(x, Tensor):
        if weight.shape[2] == 1:
            return F.linear(x, weight[:, :, 0], bias)
        if torch.compiler.is_compiling():  # which finds its own way
            return F.conv1d(x.mT, weight, bias, padding=weight.shape[2] // 2).mT
    parts = Snippets.of(x).parts
    outputs = [_GatheredProducts.apply(part.rows, weight, bias, part.placement) for part in parts]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def taps_first(weight: Tensor) -> Tensor:
    """Store a weight [H,D,k] in memory as [k,H,D], so that any taps in a row are a matrix ready for a product."""
    return weight.permute(2, 0, 1).contiguous().permute(1, 2, 0)


def _groups(weight: Tensor) -> list[tuple[range, Tensor]]:
    """The taps' shifts in time and their weights [taps * H, D], a few taps at a time."""
    h, d, taps = weight.shape
    shifts = range(-(taps // 2), taps // 2 + 1)
    firsts = range(0, taps, TAPS_AT_ONCE)
    matrices = weight.permute(2, 0, 1)
    return [(shifts[i : i + TAPS_AT_ONCE], matrices[i : i + TAPS_AT_ONCE].reshape(-1, d)) for i in firsts]


class _GatheredProducts(torch.autograd.Function):
    """apply(rows [R,D], weight [H,D,k], bias [H], placement of B * T snippets) -> [B,T,H]"""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, placement: Placement) -> Tensor:
        h = len(weight)
        out = None
        for shifts, matrix in _groups(weight):
            shares = product(rows, matrix).view(-1, h)
            sums = placement.neighbours(shifts, rows.device).sums(shares)
            out = sums if out is None else out.add_(sums)
        assert out is not None
        ctx.save_for_backward(rows, weight)
        ctx.placement = placement
        return out.add_(bias).view(*placement.shape, h)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None]:
        rows, weight = ctx.saved_tensors
        placement: Placement = ctx.placement
        h, d, _ = weight.shape
        grad = grad_outputs[0].reshape(-1, h)
        grad_taps, grad_rows = [], None
        for shifts, matrix in _groups(weight):
            shares = placement.shares(shifts, rows.device).sums(grad).view(len(rows), -1)
            grad_taps.append(product(shares.t(), rows.t()).view(len(shifts), h, d))
            if ctx.needs_input_grad[0]:
                through = product(shares, matrix.t())
                grad_rows = through if grad_rows is None else grad_rows.add_(through)
        together = grad_taps[0] if len(grad_taps) == 1 else torch.cat(grad_taps)
        return grad_rows, together.permute(1, 2, 0), grad.sum(0), None
