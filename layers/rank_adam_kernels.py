"""The Triton kernels of layers/rank_adam.py, which imports this file where Triton is."""

import triton
import triton.language as tl


@triton.jit
def begin(step, found_inf, scales, lr, log_beta1, log_beta2):
    """Write lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t) to `scales` [2], and count the step unless found_inf is set.

    lr is a scalar on the device, like `step`. In double precision: for a beta2 of 0.999 the difference from 1 would lose four
    digits at the first step.
    """
    t = tl.load(step) + 1
    steps = t.to(tl.float64)
    tl.store(scales, (tl.load(lr) / (1 - tl.exp(steps * log_beta1))).to(tl.float32))
    tl.store(scales + 1, (1 / tl.sqrt(1 - tl.exp(steps * log_beta2))).to(tl.float32))
    tl.store(step, t, mask=tl.load(found_inf) == 0)


@triton.jit
def update(
    w,  # [N,W], like m and v
    m,
    v,
    g,  # [R,N]
    x,  # [R,W]
    scales,  # [2], from `begin`
    found_inf,
    N,
    W,
    beta2,
    rest1,  # 1 - beta1 and 1 - beta2, of which the host knows more digits
    rest2,
    eps,
    decay,
    R: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Adam on ROWS x COLUMNS weights of the gradient sum_r g[r]^T x[r], unless found_inf is set."""
    if tl.load(found_inf) == 0:
        step_size = tl.load(scales)
        unbias = tl.load(scales + 1)
        blocks = tl.cdiv(W, COLUMNS)
        block = tl.program_id(0)
        column = (block % blocks).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        first = (block // blocks) * ROWS
        for i in range(ROWS):
            row = first + i
            inside = column < tl.where(row < N, W, 0)
            here = tl.cast(row, tl.int64) * W + column
            weight = tl.load(w + here, mask=inside)
            gradient = decay * weight
            for r in tl.static_range(R):
                factor = tl.load(g + r * N + tl.minimum(row, N - 1))  # of a row beyond the last, nothing is stored
                gradient += factor * tl.load(x + tl.cast(r, tl.int64) * W + column, mask=inside)
            mean = tl.load(m + here, mask=inside)
            mean += rest1 * (gradient - mean)
            square = beta2 * tl.load(v + here, mask=inside) + rest2 * gradient * gradient
            tl.store(w + here, weight - step_size * mean / (tl.sqrt(square) * unbias + eps), mask=inside)
            tl.store(m + here, mean, mask=inside)
            tl.store(v + here, square, mask=inside)
