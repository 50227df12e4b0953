"""Segment mix-up (AAL): each video of a batch is mixed with its partner, the video before it (the first with the last).

Three rules: features add up, pseudo labels join, mask weights are averaged.
"""

import torch
from torch import Tensor


def partner(x: Tensor) -> Tensor:
    """Each video's partner: roll(x)[b] = x[b-1] along the batch."""
    return torch.roll(x, 1, dims=0)


def add_partner(x: Tensor) -> Tensor:
    """Mix features [B,...]: a sum, not a mean."""
    return x + partner(x)


def join_labels(labels: Tensor) -> Tensor:
    """Mix pseudo labels [B,T] of 0 and 1: action where either video has action."""
    return torch.maximum(labels, partner(labels))


def average_weights(weights: Tensor) -> Tensor:
    """Mix mask weights [B,T]: the mean of both."""
    return (weights + partner(weights)) / 2
