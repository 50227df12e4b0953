"""The losses of SAL: one pure function a term, and their weighted sum (docs/method.md, section 3).

losses = sal_losses(output, labels, targets, config)      # {"mil": ..., "bg": ..., ...}, unweighted
weighted_total(losses, weights).backward()
"""

import math
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, stack

from model import SalOutput, combined_sequence, topk_count, topk_mean
from utils.actionness import ActionnessTargets


@dataclass(frozen=True)
class LossConfig:
    """Numbers inside the loss terms; defaults are the THUMOS'14 recipe."""

    mil_ratio: float = 0.125  # of T
    mil_rank: str = "combined"  # rank snippets by the combined sequence, or by the "cas" itself
    bg_ratio: float = 0.125  # of T
    gce_q: float = 0.5
    gce_eps: float = 1e-7
    label_eps: float = 1e-10
    fusion: dict[str, float] = field(default_factory=lambda: {"cas": 1 / 3, "rgb": 1 / 3, "flow": 1 / 3})


def video_cross_entropy(logits: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """CE of [B,C] logits against multi-hot labels [B,C] that share one unit of probability."""
    share = labels / labels.sum(1, keepdim=True) + eps
    return -(share * F.log_softmax(logits, dim=1)).sum(1).mean()


def mil_loss(output: SalOutput, labels: Tensor, config: LossConfig) -> Tensor:
    """Top-k multiple instance learning: the video's class logits are those of its most salient snippets."""
    rank = output.cas if config.mil_rank == "cas" else combined_sequence(output, config.fusion)
    logits = topk_mean(output.cas, rank, topk_count(config.mil_ratio, output.cas.shape[1]))
    return video_cross_entropy(logits, labels, eps=config.label_eps)


def background_loss(cas_bg: Tensor, ratio: float) -> Tensor:
    """KL(uniform || softmax(z)) in nats, z the top-k mean of cas_bg [B,T,C]: background says nothing of the class."""
    logits = topk_mean(cas_bg, cas_bg.softmax(2), topk_count(ratio, cas_bg.shape[1]))
    classes = logits.shape[1]
    # The difference is taken class by class: near zero, log C minus the mean would lose digits.
    return (-math.log(classes) - F.log_softmax(logits, dim=1)).mean(1).mean()


def masked_gce(prob: Tensor, label: Tensor, weight: Tensor, *, q: float, eps: float) -> Tensor:
    """Masked generalized cross entropy of probabilities against labels under weights, all [B,T] (docs/method.md, section 3).

    Action and background snippets are averaged apart, so that few of one kind count as much as many of the other.
    """
    action, background = weight * label, weight * (1 - label)
    action_term = action * (1 - (prob + eps) ** q) / q
    background_term = background * (1 - (1 - prob + eps) ** q) / q
    per_video = action_term.sum(1) / (action.sum(1) + eps) + background_term.sum(1) / (background.sum(1) + eps)
    return per_video.mean()


def mutual_loss(stream_actionness: dict[str, Tensor]) -> Tensor:
    """Mean squared difference of the streams' actionness; 0 with a single stream."""
    first, *rest = stream_actionness.values()
    return F.mse_loss(first, rest[0]) if rest else first.new_zeros(())


def sal_losses(output: SalOutput, labels: Tensor, targets: ActionnessTargets, config: LossConfig) -> dict[str, Tensor]:
    """Every term, unweighted. labels [B,C] multi-hot, at least one class a video."""

    def gce(streams: dict[str, Tensor], label: Tensor, weight: Tensor) -> Tensor:
        terms = [masked_gce(a, label, weight, q=config.gce_q, eps=config.gce_eps) for a in streams.values()]
        return stack(terms).sum()

    video_logits = [output.video_logits, *output.stream_video_logits.values()]
    return {
        "mil": mil_loss(output, labels, config),
        "bg": background_loss(output.cas_bg, config.bg_ratio),
        "act": gce(output.stream_actionness, targets.label, targets.weight),
        "mix": gce(output.mixed_actionness, targets.mixed_label, targets.mixed_weight),
        "mutual": mutual_loss(output.stream_actionness),
        "so": stack([video_cross_entropy(s, labels, eps=config.label_eps) for s in video_logits]).sum(),
    }


def weighted_total(losses: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    return stack([weights[name] * term for name, term in losses.items()]).sum()
