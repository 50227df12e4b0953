"""Temporal convolution over snippets, as plain matrix products.

A k-tap convolution of snippet-major videos [B,T,D] is k products over shifted rows. Nothing is transposed, and both passes run
as fast as the machine multiplies matrices. To this end the weight, of shape [H,D,k], is stored tap by tap.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TemporalConv(nn.Conv1d):
    """Convolution over snippets that keeps their number: [B,T,D] -> [B,T,H], an odd number of taps.

    Parameters and their initial values are those of nn.Conv1d; they are cast to the dtype of the input.
    """

    bias: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.weight = nn.Parameter(taps_first(self.weight.detach()))

    def forward(self, x: Tensor) -> Tensor:
        return temporal_conv(x, self.weight.to(x.dtype), self.bias.to(x.dtype))

    def output_for_sum(self, outputs: Tensor) -> Tensor:
        """The output for x + y, given the sum of the outputs for x and y. Only the bias is not linear, and counts once."""
        return outputs - self.bias.to(outputs.dtype)


def temporal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Same-padded 1-D convolution over snippets: [B,T,D] by [H,D,k] and [H] -> [B,T,H], k odd."""
    if weight.shape[2] == 1:
        return F.linear(x, weight[:, :, 0], bias)
    return _ShiftedProducts.apply(x, weight, bias)


def taps_first(weight: Tensor) -> Tensor:
    """Store a weight [H,D,k] in memory as [k,D,H], so that each tap is a matrix ready for a product."""
    return weight.permute(2, 1, 0).contiguous().permute(2, 1, 0)


class _ShiftedProducts(torch.autograd.Function):
    """Convolution by laying the padded videos end to end as rows: a tap is one product over all of them, shifted by the tap.

    Rows that reach from one video into the next are computed too, then dropped: 2 of 752 with three taps at T = 750.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        b, t, d = x.shape
        h, _, taps = weight.shape
        pad = taps // 2
        rows = F.pad(x, (0, 0, pad, pad)).view(b * (t + 2 * pad), d)
        count = len(rows) - 2 * pad
        out = x.new_empty(len(rows), h)
        out[:count] = bias
        for tap in range(taps):
            out[:count].addmm_(rows[tap : tap + count], weight[:, :, tap].t())
        ctx.save_for_backward(rows, weight)
        ctx.shape = (b, t)
        return out.view(b, t + 2 * pad, h)[:, :t]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:
        (grad,) = grad_outputs
        rows, weight = ctx.saved_tensors
        (b, t), (h, d, taps) = ctx.shape, weight.shape
        pad = taps // 2
        count = len(rows) - 2 * pad
        grad_rows = F.pad(grad, (0, 0, 0, 2 * pad)).view(len(rows), h)[:count]
        grad_taps = weight.new_empty(taps, d, h)
        for tap in range(taps):
            torch.mm(rows[tap : tap + count].t(), grad_rows, out=grad_taps[tap])
        grad_x = None
        if ctx.needs_input_grad[0]:
            padded = torch.zeros_like(rows)
            for tap in range(taps):
                padded[tap : tap + count].addmm_(grad_rows, weight[:, :, tap])
            grad_x = padded.view(b, t + 2 * pad, d)[:, pad : pad + t]
        return grad_x, grad_taps.permute(2, 1, 0), grad_rows.sum(0)
