"""Adam on a wide weight [N,W] straight from the factors of its gradient, in one pass of a Triton kernel (CUDA, float32).

    if takes(weight, rows):
        rank_adam(weight, m, v, g, x, step=step, found_inf=found_inf, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=5e-4)

The gradient sum_r g[r]^T x[r] is formed where it is used: weight and moments are read once and written once, 6 passes over the
layer's size. Forming the gradient first takes one more to write it and one to read it.

Triton comes with torch's CUDA wheels on Linux. It compiles on first use, which takes a C compiler; where anything of this
fails, `takes` is False, `unusable` says why, and layers/wide_adam.py forms the gradient.
"""

import functools
import math

import torch
from torch import Tensor

# The kernel multiplies R numbers per weight one by one, read from the cache: 4 R bytes beside 24 from memory. Up to here
# memory should set the pace (not measured); with more, a matrix product is worth the two passes that it adds.
MOST_ROWS = 16
TILE_ROWS, TILE_COLUMNS, WARPS = 16, 1024, 4  # of a program: each thread moves two vectors of four per row

DEVICES = ("cuda",)
TOLERANCE = 1e-5  # of the trial, relative


def takes(weight: Tensor, rows: int) -> bool:
    """Whether `rank_adam` can update this weight [N,W] with `rows` rows of factors, R."""
    return (
        weight.device.type in DEVICES
        and weight.dtype == torch.float32
        and weight.is_contiguous()
        and weight.numel() > 0
        and rows <= MOST_ROWS
        and not unusable(weight.device)
    )


@torch.no_grad()
def rank_adam(
    w: Tensor,
    m: Tensor,
    v: Tensor,
    g: Tensor,
    x: Tensor,
    *,
    step: Tensor,
    found_inf: Tensor | None,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Update the weight w [N,W] and its moments m, v [N,W] by the gradient g^T x of g [R,N] and x [R,W], all float32.

    `step`, a scalar on the device, counts the updates. Where `found_inf`, another, is not 0, nothing changes. `lr` may be a
    third. The host waits for none of them. w, m and v must be contiguous.
    """
    from layers.rank_adam_kernels import begin, update

    assert w.is_contiguous() and m.is_contiguous() and v.is_contiguous()
    n, width = w.shape
    beta1, beta2 = betas
    found_inf = torch.zeros_like(step) if found_inf is None else found_inf
    lr = lr if isinstance(lr, Tensor) else step.new_full((), lr)
    scales = step.new_empty(2)
    programs = -(-width // TILE_COLUMNS) * -(-n // TILE_ROWS)
    with torch.cuda.device_of(w):
        begin[(1,)](step, found_inf, scales, lr, _log(beta1), _log(beta2))
        update[(programs,)](
            w,
            m,
            v,
            g.contiguous(),
            x.contiguous(),
            scales,
            found_inf,
            n,
            width,
            beta2,
            1 - beta1,
            1 - beta2,
            eps,
            weight_decay,
            R=len(g),
            ROWS=TILE_ROWS,
            COLUMNS=TILE_COLUMNS,
            num_warps=WARPS,
            enable_fp_fusion=True,
        )


def _log(beta: float) -> float:
    return math.log(beta) if beta else -math.inf


@functools.cache
def unusable(device: torch.device) -> str:
    """Why the kernels can't be used on this device, in one line; empty where they can. Tries them at the first call."""
    try:
        return _trial(device)
    except Exception as error:  # an absent Triton, no C compiler, a GPU that it does not know
        first_line = (str(error).strip().splitlines() or ["no reason given"])[0]
        return f"{type(error).__name__}: {first_line}"


@torch.no_grad()
def _trial(device: torch.device) -> str:
    """Compare an update, and one that found_inf forbids, with plain torch in double precision."""
    n, width, lr, betas, eps, decay, steps = 16, 4096, 0.01, (0.9, 0.999), 1e-8, 0.1, 3
    # No random numbers: those are the run's.
    wave = torch.arange(2 * (n + width), device=device, dtype=torch.float32).sin()
    g, x = wave[: 2 * n].view(2, n), wave[2 * n :].view(2, width)
    w, m, v = (scale * x[:1].expand(n, width).roll(1, 1) for scale in (1.0, 0.1, 0.1))
    v = v.abs()
    gradient = g.double().t() @ x.double() + decay * w.double()
    mean, square = m.double().lerp(gradient, 1 - betas[0]), v.double().lerp(gradient.square(), 1 - betas[1])
    root = (square / (1 - betas[1] ** (steps + 1))).sqrt() + eps
    expected = w.double() - lr / (1 - betas[0] ** (steps + 1)) * mean / root
    outcomes = ((1.0, (w.double(), m.double(), v.double()), steps), (0.0, (expected, mean, square), steps + 1))
    step = torch.full((), float(steps), device=device)
    for found, wanted, count in outcomes:
        found_inf = torch.full((), found, device=device)
        rank_adam(w, m, v, g, x, step=step, found_inf=found_inf, lr=lr, betas=betas, eps=eps, weight_decay=decay)
        pairs = zip((w, m, v), wanted, strict=True)
        close = [torch.allclose(a.double(), b, rtol=TOLERANCE, atol=TOLERANCE) for a, b in pairs]
        if not (all(close) and step.item() == count):
            return "its numbers differ from plain torch's"
    return ""
