"""Adaptive actionness learning (AAL): pseudo labels, the adaptive actionness mask, and the targets made of both."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model import SalOutput, topk_count
from utils.mixup import average_weights, join_labels


@dataclass(frozen=True)
class PseudoLabelConfig:
    """How many snippets are taken for action (docs/method.md, section 3)."""

    ratio: float = 0.125  # of T, by actionness
    extra: int = 17  # snippets more
    confidence_ratio: float = 0.5  # of T, by class evidence; 0: no such test


@dataclass(frozen=True)
class ActionnessTargets:
    """What teaches actionness in one step; no gradient flows through it. All [B,T]."""

    label: Tensor
    weight: Tensor
    mixed_label: Tensor
    mixed_weight: Tensor


def pseudo_label_count(config: PseudoLabelConfig, num_segments: int) -> int:
    return topk_count(config.ratio, num_segments) + config.extra


@torch.no_grad()
def pseudo_labels(actionness: Tensor, cas: Tensor, config: PseudoLabelConfig) -> Tensor:
    """Class-agnostic pseudo labels h [B,T] of 0 and 1 (docs/method.md, section 3).

    1 on the snippets with the largest actionness [B,T] that are also among those with the most class evidence, the sum
    over classes of relu(cas) [B,T,C].
    """
    t = actionness.shape[1]
    label = _top_indicator(actionness, pseudo_label_count(config, t))
    if config.confidence_ratio > 0:
        label = label * _top_indicator(cas.relu().sum(2), topk_count(config.confidence_ratio, t))
    return label


class AdaptiveMask(nn.Module):
    """Weighs snippets by how confident the classifier is compared with a running mean and variance (docs/method.md, section 3).

    The statistics are buffers: they influence training, so they belong to its checkpoint.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, *, momentum: float, var_factor: float, mean_init: float, var_init: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.var_factor = var_factor
        self.register_buffer("mean", torch.tensor(mean_init))
        self.register_buffer("var", torch.tensor(var_init))

    @torch.no_grad()
    def forward(self, cas: Tensor) -> Tensor:
        """cas [B,T,C] -> w [B,T] in (0,1]: 1 above the mean, a Gaussian below it. Updates the statistics first."""
        confidence = cas.softmax(2).amax(2)  # [B,T]
        self.mean.lerp_(confidence.mean(), 1 - self.momentum)
        if confidence.numel() > 1:  # a single snippet has no variance
            self.var.lerp_(confidence.var(), 1 - self.momentum)
        below = (confidence - self.mean).clamp_max(0)
        return torch.exp(-below.square() / (self.var_factor * self.var).clamp_min(torch.finfo(self.var.dtype).tiny))


@torch.no_grad()
def actionness_targets(output: SalOutput, mask: AdaptiveMask, config: PseudoLabelConfig) -> ActionnessTargets:
    """The targets of one training step, from the model's own output. Updates the mask's statistics."""
    label = pseudo_labels(output.actionness, output.cas, config)
    weight = mask(output.cas)
    return ActionnessTargets(label, weight, join_labels(label), average_weights(weight))


def _top_indicator(values: Tensor, k: int) -> Tensor:
    """1 on the k largest of each row of [B,T], 0 elsewhere."""
    return torch.zeros_like(values).scatter_(1, values.topk(k, dim=1).indices, 1.0)
