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
    out: Tensor = _GatheredProducts.apply(weight, bias, [p.placement for p in parts], *(p.rows for p in parts))
    return out


def taps_first(weight: Tensor) -> Tensor:
    """Store a weight [H,D,k] in memory as [k,H,D], so that any taps in a row are a matrix ready for a product."""
    return weight.permute(2, 0, 1).contiguous().permute(1, 2, 0)


def _groups(weight: Tensor) -> list[tuple[range, Tensor]]:
    """The taps' shifts in time and their weights [taps * H, D], a few taps at a time."""
    _, d, taps = weight.shape
    shifts = range(-(taps // 2), taps // 2 + 1)
    firsts = range(0, taps, TAPS_AT_ONCE)
    matrices = weight.permute(2, 0, 1)
    return [(shifts[i : i + TAPS_AT_ONCE], matrices[i : i + TAPS_AT_ONCE].reshape(-1, d)) for i in firsts]


class _GatheredProducts(torch.autograd.Function):
    """apply(weight [H,D,k], bias [H], placements, rows [R,D] of each part) -> [B,T,H]"""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, placements: list[Placement], *parts: Tensor) -> Tensor:
        h, t = len(weight), placements[0].shape[1]
        sizes = [placement.shape[0] for placement in placements]
        out = parts[0].new_empty(sum(sizes), t, h)
        for rows, placement, target in zip(parts, placements, out.split(sizes), strict=True):
            total = bias
            for shifts, matrix in _groups(weight):
                shares = product(rows, matrix).view(-1, h)
                total = torch.add(total, placement.neighbours(shifts, rows.device).sums(shares), out=target.view(-1, h))
        ctx.save_for_backward(weight, *parts)
        ctx.placements, ctx.sizes = placements, sizes
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        weight, *parts = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        h, d, _ = weight.shape
        through: list[Tensor | None] = [None] * len(parts)
        groups = _groups(weight)
        grad_taps: list[Tensor | None] = [None] * len(groups)
        for i, (rows, placement, part_grad) in enumerate(
            zip(parts, ctx.placements, grad.split(ctx.sizes), strict=True)
        ):
            for j, (shifts, matrix) in enumerate(groups):
                shares = placement.shares(shifts, rows.device).sums(part_grad.view(-1, h)).view(len(rows), -1)
                grad_taps[j] = _plus(grad_taps[j], product(shares.t(), rows.t()))
                if ctx.needs_input_grad[3 + i]:
                    through[i] = _plus(through[i], product(shares, matrix.t()))
        stacked = [taps.view(-1, h, d) for taps in grad_taps if taps is not None]
        together = stacked[0] if len(stacked) == 1 else torch.cat(stacked)
        return together.permute(1, 2, 0), grad.sum((0, 1)), None, *through


def _plus(total: Tensor | None, more: Tensor) -> Tensor:
    return more if total is None else total.add_(more)
