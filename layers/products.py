"""Large matrix products on a CPU, by the faster of the libraries that torch brings.

    use_library(fastest_library(torch.get_num_threads()))      # once, before the first product
    product(a, b)                       # [M,K] by [N,K] -> a b^T [M,N]

`torch.mm` calls the BLAS that torch was built with; a 1 x 1 convolution is the same product by oneDNN. Which of them knows a
processor's wide instructions differs from one to the next by a factor of two, so it is measured, not looked up. They add up in
different orders: another library moves last bits.
"""

import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Library = Literal["blas", "onednn"]

# oneDNN is taken only when it is ahead by this factor: near 1, chance would decide, and change last bits from run to run.
CLEARLY_FASTER = 1.2
# Multiplications below which a product always goes to BLAS: torch keeps small convolutions away from oneDNN.
SMALL = 2**22
# The product that is timed, of the proportions of a training step's: rows, channels, taps x hidden channels.
TRIAL_SIZES = (256, 1024, 1536)
TRIAL_RUNS = 4  # of which the fastest counts

_library: Library = "blas"


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T: [M,K] by [N,K] -> [M,N], row by row in memory, of operands stored by rows or by columns. Has no gradient."""
    return by_convolution(a, b) if _takes_onednn(a, b) else torch.mm(a, b.t())


def batched_product(a: Tensor, b: Tensor) -> Tensor:
    """`product` of each pair: [B,M,K] by [B,N,K] -> [B,M,N]."""
    if len(a) and _takes_onednn(a[0], b[0]):
        return torch.stack([by_convolution(*pair) for pair in zip(a, b, strict=True)])
    return torch.bmm(a, b.mT)


def current_library() -> Library:
    return _library


def use_library(library: Library) -> None:
    """Choose the library of all later products of this process."""
    global _library
    _library = library


@cache
def fastest_library(threads: int) -> Library:
    """Time both kinds of product of a training step by either library, with that many threads: a tenth of a second, once."""
    if not torch.backends.mkldnn.is_available():
        return "blas"
    rows, channels, outputs = TRIAL_SIZES
    x, weight, grad = torch.ones(rows, channels), torch.ones(outputs, channels), torch.ones(rows, outputs)

    def seconds(multiply: Callable[[Tensor, Tensor], Tensor]) -> float:
        times = []
        for _ in range(TRIAL_RUNS):
            start = time.perf_counter()
            multiply(x, weight)
            multiply(grad.t(), x.t())
            times.append(time.perf_counter() - start)
        return min(times)

    blas, onednn = seconds(lambda a, b: torch.mm(a, b.t())), seconds(by_convolution)
    return "onednn" if onednn * CLEARLY_FASTER < blas else "blas"


def _takes_onednn(a: Tensor, b: Tensor) -> bool:
    return _library == "onednn" and a.dtype == torch.float32 and not a.is_cuda and a.numel() * len(b) >= SMALL


@torch.no_grad()
def by_convolution(a: Tensor, b: Tensor) -> Tensor:
    """As `product`. The rows of one operand are the pixels of an image, those of the other the filters."""
    if a.stride(0) == 1 and a.stride(1) != 1:
        # Column by column: as pixels of a channels-first image, the rows of b come out whole.
        return F.conv2d(b.t()[None, :, None, :], a[:, :, None, None])[0, :, 0, :]
    return F.conv2d(a[None, None].permute(0, 3, 1, 2), b[:, :, None, None])[0, :, 0, :].t()
