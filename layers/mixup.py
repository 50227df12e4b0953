"""Segment mix-up (AAL): each video of a batch is mixed with its partner, the video before it (the first with the last).

Three rules: features add up, pseudo labels join, mask weights are averaged.
"""

import torch
from torch import Tensor


def partner(x: Tensor) -> Tensor:
    """Each video's partner: roll(x)[b] = x[b-1] along the batch."""
    return torch.roll(x, 1, dims=0)


def add_partner(x: Tensor, before: Tensor | None = None) -> Tensor:
    """Mix features [B,...]: a sum, not a mean. `before` [1,...] is the first video's partner where that is in no row of x."""
    return x + (partner(x) if before is None else torch.cat([before, x[:-1]]))


def join_labels(labels: Tensor) -> Tensor:
    """Mix pseudo labels [B,T] of 0 and 1: action where either video has action."""
    return torch.maximum(labels, partner(labels))


def average_weights(weights: Tensor) -> Tensor:
    """Mix mask weights [B,T]: the mean of both."""
    return (weights + partner(weights)) / 2
