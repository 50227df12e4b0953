"""The training signal of SAL: the targets of actionness, one pure function per loss term, and their weighted sum.

    targets = actionness_targets(output, mask, options.actionness, labels=labels)
    losses = sal_losses(output, labels, targets, losses=options.losses, fusion=options.fusion)      # {"mil": ..., "bg": ...}
    weighted_total(losses, options.losses.weights).backward()

The formulas are in docs/method.md, section 3.
"""

if __name__ == "__main__":  # first, since the rest may need packages that are not there
    from command_line.console import not_a_program

    not_a_program("losses.py", run="python main.py")

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from layers.mixup import average_weights, join_labels
from model import WHOLE, SalOutput, combined_sequence, topk_mean
from options import AblationOptions, ActionnessOptions, FusionOptions, LossOptions
from utils.snippet_grid import topk_count

# Adaptive actionness learning (AAL): the targets of actionness


@dataclass(frozen=True, kw_only=True)
class ActionnessTargets:
    """Targets of actionness in one step, without gradient. All [B,T]; of mixed-up segments None without mix-up."""

    label: Tensor
    weight: Tensor
    mixed_label: Tensor | None
    mixed_weight: Tensor | None
    label_of_all: Tensor  # of the step's videos in all processes, as the next one: for curves
    weight_of_all: Tensor


class Company:
    """The videos that a batch is part of: its own alone, unless several processes share a step (ranks/)."""

    def everyone(self, values: Tensor) -> Tensor:
        """Values of this batch's videos [n,...] -> those of all videos of the step [B,...], in order."""
        return values

    def own(self, values: Tensor) -> Tensor:
        """Values of all videos [B,...] -> those of this batch's [n,...]."""
        return values


ALONE = Company()


@torch.no_grad()
def pseudo_labels(actionness: Tensor, cas: Tensor, options: ActionnessOptions) -> Tensor:
    """Class-agnostic pseudo labels h [B,T] of 0 and 1.

    1 on the snippets with the largest actionness [B,T] that are also among those with the most class evidence, the sum
    over classes of relu(cas) [B,T,C].
    """
    t = actionness.shape[1]
    label = _top_indicator(actionness, options.label_count(t))
    if options.confidence_ratio > 0:
        label = label * _top_indicator(cas.relu().sum(2), topk_count(options.confidence_ratio, t))
    return label


# Running sums of probabilities are taken in integers of these units, of a million of which 64 bits can hold the sum: on a GPU
# torch has no deterministic ones of floats.
FIXED_POINT = 2.0**-40


def class_evidence(cas: Tensor, labels: Tensor) -> Tensor:
    """How much each snippet shows of what its video shows: the largest probability among the video's classes, [B,T].

    cas [B,T,C], labels [B,C] multi-hot.
    """
    return (cas.softmax(2) * (labels > 0).unsqueeze(1)).amax(2)


def evidence_threshold(evidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Otsu's threshold of each row of [B,T], in [0,1], and the means of the values below and above it, each [B,1].

    Of all cuts of the sorted values, that with the greatest variance between the two parts; the threshold lies in the middle
    between its neighbours. A constant row has its value as threshold.
    """
    values = evidence.double().sort(1).values
    if values.shape[1] == 1:
        values = values.expand(-1, 2)
    t = values.shape[1]
    below = torch.arange(1, t, device=values.device)  # values below each cut
    sums = (values / FIXED_POINT).round().long().cumsum(1).double() * FIXED_POINT
    means_below, means_above = sums[:, :-1] / below, (sums[:, -1:] - sums[:, :-1]) / (t - below)
    between = below * (t - below) * (means_above - means_below).square()
    cut = between.argmax(1, keepdim=True)
    threshold = (values.gather(1, cut) + values.gather(1, cut + 1)) / 2
    return threshold, means_below.gather(1, cut), means_above.gather(1, cut)


@torch.no_grad()
def evidence_labels(evidence: Tensor, *, band: float) -> tuple[Tensor, Tensor]:
    """Pseudo labels h and weights, [B,T] each, of evidence [B,T]: h is 1 above Otsu's threshold, however many those are.

    A snippet near the threshold hardly counts: its weight is its distance from there as a share of `band` times that of the
    mean of its side, at most 1. Evidence that is the same everywhere, or differs by less than the means' FIXED_POINT, teaches
    nothing: all weigh 0.
    """
    threshold, below, above = evidence_threshold(evidence)
    exact = evidence.double()
    label, weight = exact > threshold, torch.ones_like(exact)
    if band > 0:
        reach = band * torch.where(label, above - threshold, threshold - below)
        weight = ((exact - threshold).abs() / reach).clamp_max(1)
    varied = (below < threshold) & (threshold < above)
    weight = torch.where(varied, weight, 0.0)
    return label.to(evidence.dtype), weight.to(evidence.dtype)


@torch.no_grad()
def taught_labels(output: SalOutput, labels: Tensor, options: ActionnessOptions) -> tuple[Tensor, Tensor | None]:
    """Pseudo labels [B,T] from what --pseudo_source names, and their weights [B,T]; None where all weigh 1."""
    if options.pseudo_source == "classes":
        return evidence_labels(class_evidence(output.cas, labels), band=options.pseudo_band)
    assert output.actionness is not None
    return pseudo_labels(output.actionness, output.cas, options), None


def snippet_confidence(cas: Tensor) -> Tensor:
    """The classifier's confidence in each snippet: the largest class probability, [B,T,C] -> [B,T]."""
    return cas.softmax(2).amax(2)


class AdaptiveMask(nn.Module):
    """Weights of snippets by the classifier's confidence, compared with a running mean and variance.

    The statistics are buffers: they influence training, so they belong in its checkpoint.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, options: ActionnessOptions, *, num_classes: int) -> None:
        super().__init__()
        self.momentum, self.var_factor = options.mask_momentum, options.mask_var_factor
        mean = 1 / num_classes if options.mask_mean_init is None else options.mask_mean_init
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("var", torch.tensor(options.mask_var_init))

    @torch.no_grad()
    def forward(self, confidence: Tensor) -> Tensor:
        """The confidences of a step's snippets [B,T] -> w [B,T] in (0,1]. Updates the statistics first."""
        self.mean.lerp_(confidence.mean(), 1 - self.momentum)
        if confidence.numel() > 1:  # a single snippet has no variance
            self.var.lerp_(confidence.var(), 1 - self.momentum)
        return self.weight(confidence)

    def weight(self, confidence: Tensor) -> Tensor:
        """w of each confidence, by the statistics as they are: 1 above the mean, a Gaussian below it."""
        below = (confidence - self.mean).clamp_max(0)
        return torch.exp(-below.square() / (self.var_factor * self.var).clamp_min(torch.finfo(self.var.dtype).tiny))


@torch.no_grad()
def actionness_targets(
    output: SalOutput,
    mask: AdaptiveMask,
    options: ActionnessOptions,
    *,
    labels: Tensor,
    ablation: AblationOptions = WHOLE,
    company: Company = ALONE,
) -> ActionnessTargets | None:
    """The targets of one training step, from the output of the model itself or of its teacher; None without actionness.

    labels [B,C] multi-hot. Updates the mask's statistics.
    """
    if not ablation.actionness:
        return None
    own_label, own_weight = taught_labels(output, labels, options)
    own = [own_label, own_weight, snippet_confidence(output.cas) if ablation.mask else None]
    label, *rest = _of_everyone(torch.stack([values for values in own if values is not None], 1), company)
    weight = mask(rest[-1]) if ablation.mask else torch.ones_like(label)
    if own_weight is not None:
        weight = weight * rest[0]
    return ActionnessTargets(
        label_of_all=label,
        weight_of_all=weight,
        label=company.own(label),
        weight=company.own(weight),
        mixed_label=company.own(join_labels(label)) if ablation.mixup else None,
        mixed_weight=company.own(average_weights(weight)) if ablation.mixup else None,
    )


@torch.no_grad()
def take_part_in_targets(
    mask: AdaptiveMask,
    num_segments: int,
    options: ActionnessOptions,
    *,
    ablation: AblationOptions,
    company: Company,
    device: torch.device,
) -> None:
    """What `actionness_targets` does for a process without videos: its part of the exchange, and the mask's statistics."""
    if ablation.actionness:
        kinds = 1 + (options.pseudo_source == "classes") + ablation.mask
        everyone = _of_everyone(torch.zeros(0, kinds, num_segments, device=device), company)
        if ablation.mask:
            mask(everyone[-1])


def _of_everyone(own: Tensor, company: Company) -> list[Tensor]:
    """k values of this batch's videos [n,k,T] -> each of those of all videos [B,T].

    They are laid out as they were computed, since sums over another layout have other last bits.
    """
    return [values.contiguous() for values in company.everyone(own).unbind(1)]


def _top_indicator(values: Tensor, k: int) -> Tensor:
    """1 on the k largest of each row of [B,T], 0 elsewhere; on all of fewer, which test alone has."""
    return torch.zeros_like(values).scatter_(1, values.topk(min(k, values.shape[1]), dim=1).indices, 1.0)


# The loss terms


def video_cross_entropy(logits: Tensor, labels: Tensor, *, eps: float) -> Tensor:
    """CE of [...,B,C] logits against multi-hot labels [B,C] that share one unit of probability: [...]."""
    share = labels / labels.sum(1, keepdim=True) + eps
    return -(share * F.log_softmax(logits, dim=-1)).sum(-1).mean(-1)


@torch.no_grad()
def competing_evidence(cas: Tensor, labels: Tensor, *, weight: float) -> Tensor:
    """The cas, its video's classes competing for snippets: cas [B,T,C], labels [B,C] multi-hot -> [B,T,C], without gradient.

    To each class that the video shows, the logarithm of its probability among these classes is added, times `weight`. Else
    classes that mostly occur together may share the snippets of one of them, while the other's are learned as background. A
    video of one class has the cas itself.
    """
    own = (labels > 0).unsqueeze(1)
    share = cas.masked_fill(~own, -math.inf).log_softmax(2)
    return cas + weight * share.masked_fill(~own, 0.0)


def mil_loss(output: SalOutput, labels: Tensor, *, losses: LossOptions, fusion: FusionOptions) -> Tensor:
    """Top-k multiple instance learning: the video's class logits are those of its most salient snippets."""
    if losses.mil_rank == "combined":
        rank = combined_sequence(output, fusion.weights)
    elif losses.mil_competition > 0:
        rank = competing_evidence(output.cas, labels, weight=losses.mil_competition)
    else:
        rank = output.cas
    logits = topk_mean(output.cas, rank, topk_count(fusion.mil_ratio, output.cas.shape[1]))
    return video_cross_entropy(logits, labels, eps=losses.label_eps)


def background_loss(cas_bg: Tensor, *, ratio: float) -> Tensor:
    """KL(uniform || softmax(z)) in nats, z the top-k mean of cas_bg [B,T,C]: background says nothing about the class."""
    logits = topk_mean(cas_bg, cas_bg.softmax(2), topk_count(ratio, cas_bg.shape[1]))
    classes = logits.shape[1]
    # The difference is taken class by class: near zero, log C minus the mean would lose digits.
    return (-math.log(classes) - F.log_softmax(logits, dim=1)).mean(1).mean()


def proposal_loss(cas: Tensor, taught: Tensor) -> Tensor:
    """Cross entropy of the snippets that proposals teach a class; cas and taught, which is 0 or 1, [B,T,C]; 0 without any.

    A snippet that is taught several classes shares its unit of probability among them. The mean over a video's taught snippets,
    then over videos.
    """
    count = taught.sum(2)  # [B,T]
    of_snippets = -(F.log_softmax(cas, dim=2) * taught).sum(2) / count.clamp_min(1)
    return (of_snippets.sum(1) / (count > 0).sum(1).clamp_min(1)).mean()


def border_loss(cas: Tensor, border: Tensor) -> Tensor:
    """Cross entropy of the snippets that are taught not to be of a class; cas and border, which is 0 or 1, [B,T,C].

    The mean over a video's pairs of snippet and class, then over videos; 0 without any.
    """
    of_pairs = (log_of_others(cas) * border).sum((1, 2))
    return -(of_pairs / border.sum((1, 2)).clamp_min(1)).mean()


def log_of_others(cas: Tensor) -> Tensor:
    """log(1 - softmax(cas)), [...,C], exact where a class has nearly all probability, too; 0 of the only class."""
    classes = cas.shape[-1]
    log_prob = F.log_softmax(cas, dim=-1)
    if classes == 1:
        return torch.zeros_like(log_prob)
    largest = torch.arange(classes, device=cas.device) == log_prob.argmax(-1, keepdim=True)
    but_largest = log_prob.masked_fill(largest, -math.inf).logsumexp(-1, keepdim=True)
    prob = log_prob.exp().clamp(max=0.5)  # only the largest has more
    return torch.where(largest, but_largest, torch.log1p(-prob))


def masked_gce(prob: Tensor, label: Tensor, weight: Tensor, *, q: float, eps: float) -> Tensor:
    """Masked generalized cross entropy of probabilities against labels under weights, all [...,B,T]: [...].

    Action and background snippets are averaged separately, so that few of one kind count as much as many of the other.
    """
    action, background = weight * label, weight * (1 - label)
    action_term = action * (1 - (prob + eps) ** q) / q
    background_term = background * (1 - (1 - prob + eps) ** q) / q
    per_video = action_term.sum(-1) / (action.sum(-1) + eps) + background_term.sum(-1) / (background.sum(-1) + eps)
    return per_video.mean(-1)


def mutual_loss(stream_actionness: Mapping[str, Tensor]) -> Tensor:
    """Mean squared difference of the streams' actionness; 0 with a single stream."""
    first, *rest = stream_actionness.values()
    return F.mse_loss(first, rest[0]) if rest else first.new_zeros(())


def sal_losses(
    output: SalOutput,
    labels: Tensor,
    targets: ActionnessTargets | None,
    *,
    losses: LossOptions,
    fusion: FusionOptions,
    ablation: AblationOptions = WHOLE,
    taught: Tensor | None = None,
    borders: bool = False,
) -> dict[str, Tensor]:
    """Every term that there is, unweighted. labels [B,C] multi-hot, at least one class per video.

    `taught` [B,T,C] is what proposals teach snippets: 1 a class, -1, with `borders`, that they are not of it, 0 nothing
    (self_training.py).

    What has the same formula is computed at once: on a GPU a step costs what its operations cost to start.
    """
    terms = {"mil": mil_loss(output, labels, losses=losses, fusion=fusion)}
    if targets:
        terms["bg"] = background_loss(output.cas_bg, ratio=losses.bg_ratio)
        terms |= actionness_losses(output, targets, losses)
    if ablation.mutual:
        terms["mutual"] = mutual_loss(output.stream_actionness)
    if output.video_logits is not None:
        video_logits = torch.stack([output.video_logits, *output.stream_video_logits.values()])
        terms["so"] = video_cross_entropy(video_logits, labels, eps=losses.label_eps).sum()
    if taught is not None:
        terms["self"] = proposal_loss(output.cas, taught.clamp_min(0))
        if borders:
            terms["self"] = terms["self"] + border_loss(output.cas, -taught.clamp_max(0))
    return terms


def actionness_losses(output: SalOutput, targets: ActionnessTargets, losses: LossOptions) -> dict[str, Tensor]:
    """The masked generalized cross entropy of all streams' actionness, and of the mixed-up one if there is any."""
    probabilities, labels, weights = [output.stream_actionness], [targets.label], [targets.weight]
    if targets.mixed_label is not None and targets.mixed_weight is not None:
        probabilities.append(output.mixed_actionness)
        labels.append(targets.mixed_label)
        weights.append(targets.mixed_weight)
    prob = torch.stack([torch.stack(list(of_streams.values())) for of_streams in probabilities])  # [1 or 2,S,B,T]
    label, weight = (torch.stack(each).unsqueeze(1) for each in (labels, weights))  # [1 or 2,1,B,T], of every stream
    gce = masked_gce(prob, label, weight, q=losses.q_val, eps=losses.gce_eps).sum(1)
    return dict(zip(("act", "mix"), gce.unbind(), strict=False))


def weighted_total(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    return torch.stack([weights[name] * term for name, term in losses.items()]).sum()
